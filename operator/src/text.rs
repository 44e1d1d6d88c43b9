//! Texts from outside are cut before they are kept: nobody fills a status, a log or our memory with them.

use std::error::Error;

/// At most `bytes` of the text, and three dots where something is missing.
pub fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let mut end = bytes.saturating_sub(3);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// The cause of all: what the layers above it say is the address, which may have a secret in it.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What the error says, and all that is behind it.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error;
    while let Some(source) = cause.source() {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("short".to_owned(), 5), "short");
        assert_eq!(cut("longer".to_owned(), 5), "lo...");
        for bytes in 3..40 {
            let text = cut("\u{e9}".repeat(50), bytes);
            assert!(text.len() <= bytes && text.ends_with("..."), "{text}");
        }
    }
}
