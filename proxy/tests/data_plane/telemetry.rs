//! What is said of single requests: where nobody has asked, nothing; where somebody has, what happened, and nobody's secrets.

pub(crate) mod istio;
mod log;
mod refusals;
mod trace;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use aviary_proxy::telemetry::Wanted;
use serde_json::Value;

use crate::client::eventually;
use crate::mesh::Given;

/// Where an access log was written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// As many lines as there are to be, once they are there.
    async fn lines(&self, count: usize) -> Vec<Value> {
        let there = || self.text().lines().count() >= count;
        eventually(&format!("{count} lines"), there).await;
        let lines: Vec<Value> = self
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }
}

/// A proxy with this access log.
fn logging(access_log: &str) -> (Given, Written) {
    let written = Written::default();
    let given = Given {
        telemetry: Wanted {
            access_log: access_log.parse().unwrap(),
            ..Wanted::default()
        },
        output: Box::new(written.clone()),
        ..Given::default()
    };
    (given, written)
}
