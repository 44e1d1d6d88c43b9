//! Sends one. The address is a secret: no error shows it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;

use super::Notification;
use super::config::Receiver;
use super::text;
use crate::signature::{SIGNATURE, TIMESTAMP, signature};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("{0} cannot be read: {1}")]
    File(PathBuf, std::io::Error),
    #[error("{0} has no URL in it: write https://host/path in one line")]
    NoUrl(PathBuf),
    #[error("no answer within {}s", PATIENCE.as_secs())]
    TooLate,
    #[error("no answer: {0}")]
    Away(String),
    #[error("HTTP status {0}")]
    Status(u16),
}

pub(super) async fn send(
    http: &reqwest::Client,
    receiver: &Receiver,
    notification: &Notification,
) -> Result<(), SendError> {
    let url = String::from_utf8(read(&receiver.url_file).await?);
    let url = url.ok().and_then(|text| Url::parse(text.trim()).ok());
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| SendError::NoUrl(receiver.url_file.clone()))?;
    // It consists of texts and numbers.
    let body = serde_json::to_vec(&text::body(receiver.kind, notification)).unwrap_or_default();
    let mut request = http
        .post(url)
        .timeout(PATIENCE)
        .header(CONTENT_TYPE, "application/json");
    if let Some(file) = &receiver.hmac_key_file {
        let second = Timestamp::now().as_second();
        request = request
            .header(TIMESTAMP, second)
            .header(SIGNATURE, signature(&read(file).await?, second, &body));
    }
    let answer = request.body(body).send().await.map_err(|error| {
        if error.is_timeout() {
            SendError::TooLate
        } else {
            SendError::Away(crate::text::innermost(&error))
        }
    })?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(SendError::Status(answer.status().as_u16()))
    }
}

async fn read(file: &Path) -> Result<Vec<u8>, SendError> {
    tokio::fs::read(file)
        .await
        .map_err(|error| SendError::File(file.to_owned(), error))
}
