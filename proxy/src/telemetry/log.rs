//! The access log: what requests leave behind is written by a thread of its own. A request only puts its record into a bounded queue, and never
//! waits: where the queue is full, since whoever reads the lines does not keep up, the record is dropped and counted, and the sidecar's own log says so.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use super::entry::Record;
use super::{Output, line};
use crate::metrics::LogLines;

/// Records that may wait. Each has a few hundred bytes, 3 KiB at most.
const WAITING: usize = 1024;
/// Lines that are written at once.
const AT_ONCE: usize = 128;
/// How often dropped lines are told.
const TOLD: Duration = Duration::from_secs(10);
/// How long an ending proxy waits for its last lines.
const LAST: Duration = Duration::from_secs(1);

/// Where records go.
#[derive(Debug)]
pub struct Log {
    queue: SyncSender<Message>,
    lines: Arc<LogLines>,
}

/// The thread that writes them.
#[derive(Debug)]
pub struct Writer {
    queue: SyncSender<Message>,
    ended: Receiver<()>,
}

#[derive(Debug)]
enum Message {
    Over(Box<Record>),
    /// There will be no more.
    End,
}

pub(super) fn start(output: Output, lines: Arc<LogLines>) -> io::Result<(Log, Writer)> {
    let (queue, records) = mpsc::sync_channel(WAITING);
    let (ending, ended) = mpsc::channel();
    let counted = lines.clone();
    thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || {
            write(&records, output, &counted);
            // Nobody may be waiting.
            let _ = ending.send(());
        })?;
    let writer = Writer {
        queue: queue.clone(),
        ended,
    };
    Ok((Log { queue, lines }, writer))
}

impl Log {
    pub(super) fn offer(&self, record: Record) {
        match self.queue.try_send(Message::Over(Box::new(record))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lines.dropped(1),
        }
    }
}

impl Writer {
    /// Waits until everything is written, but not for long.
    pub fn finish(self) {
        let until = Instant::now() + LAST;
        while let Err(TrySendError::Full(_)) = self.queue.try_send(Message::End)
            && Instant::now() < until
        {
            thread::sleep(LAST / 100);
        }
        let left = until.saturating_duration_since(Instant::now());
        if self.ended.recv_timeout(left).is_err() {
            tracing::warn!("the last lines of the access log were not written");
        }
    }
}

/// Ends when it is told to.
fn write(records: &Receiver<Message>, mut output: Output, lines: &LogLines) {
    let mut text = String::new();
    let mut told = Told::default();
    let mut is_ending = false;
    while !is_ending && let Ok(first) = records.recv() {
        let more = records.try_iter().take(AT_ONCE - 1);
        text.clear();
        let mut count = 0;
        for message in std::iter::once(first).chain(more) {
            match message {
                Message::Over(record) => {
                    line::write(&record, &mut text);
                    count += 1;
                }
                Message::End => is_ending = true,
            }
        }
        match output
            .write_all(text.as_bytes())
            .and_then(|()| output.flush())
        {
            Ok(()) => lines.written(count),
            Err(_) => lines.dropped(count),
        }
        if let Some(dropped) = told.news(lines.all_dropped(), Instant::now()) {
            tracing::warn!(
                dropped,
                "lines of the access log were dropped: whoever reads them does not keep up"
            );
        }
    }
}

/// How many dropped lines were told, and when.
#[derive(Debug, Default)]
struct Told {
    dropped: u64,
    at: Option<Instant>,
}

impl Told {
    fn news(&mut self, dropped: u64, now: Instant) -> Option<u64> {
        let is_due = self
            .at
            .is_none_or(|at| now.saturating_duration_since(at) >= TOLD);
        if dropped == self.dropped || !is_due {
            return None;
        }
        let news = dropped - self.dropped;
        (self.dropped, self.at) = (dropped, Some(now));
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_told_now_and_then_and_all_of_it() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert_eq!(told.news(0, now), None);
        assert_eq!(told.news(3, now), Some(3));
        assert_eq!(told.news(5, now + TOLD / 2), None);
        assert_eq!(told.news(6, now + TOLD), Some(3));
        assert_eq!(told.news(6, now + 3 * TOLD), None);
    }
}
