//! A text of several documents, cut where YAML cuts it.

/// One document. The documents of a text, with their separators, are the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'t> {
    /// The line that begins it; empty for the first one that has none.
    pub(super) separator: &'t str,
    pub(super) text: &'t str,
}

impl<'t> Document<'t> {
    /// Its comments and empty lines before anything else.
    pub(super) fn head(&self) -> &'t str {
        let mut end = 0;
        for line in self.text.split_inclusive('\n') {
            let content = line.trim();
            if !content.is_empty() && !content.starts_with('#') {
                return &self.text[..end];
            }
            end += line.len();
        }
        self.text
    }
}

pub(super) fn of(text: &str) -> impl Iterator<Item = Document<'_>> {
    let mut rest = Some(text);
    let mut separator = "";
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let end = next_separator(text);
        let document = Document {
            separator,
            text: &text[..end],
        };
        let after = &text[end..];
        if !after.is_empty() {
            // What is on the separator's line belongs to the document, unless it is a comment.
            let line = after.split_inclusive('\n').next().unwrap_or(after);
            let said = line["---".len()..].trim_start();
            let length = if said.is_empty() || said.starts_with('#') {
                line.len()
            } else {
                "--- ".len()
            };
            separator = &after[..length];
            rest = Some(&after[length..]);
        }
        Some(document)
    })
}

/// Where the next line begins that is a separator; the end if there is none.
fn next_separator(text: &str) -> usize {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let begins = line.strip_prefix("---");
        if begins.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r'])) {
            return at;
        }
        at += line.len();
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        of(text).map(|document| document.text).collect()
    }

    #[test]
    fn documents_are_cut_at_lines_of_dashes_and_nothing_is_lost() {
        for (text, expected) in [
            ("", vec![""]),
            ("a: 1\n", vec!["a: 1\n"]),
            ("---\na: 1\n---\nb: 2", vec!["", "a: 1\n", "b: 2"]),
            ("a: 1\n--- # two\nb: 2\n", vec!["a: 1\n", "b: 2\n"]),
            (
                "--- {a: 1}\n---\r\nb: 2\r\n",
                vec!["", "{a: 1}\n", "b: 2\r\n"],
            ),
            ("a: |\n  ---\n  x\n", vec!["a: |\n  ---\n  x\n"]),
            ("a: --- b\n----\n", vec!["a: --- b\n----\n"]),
        ] {
            assert_eq!(texts(text), expected, "{text:?}");
            let whole: String = of(text)
                .flat_map(|document| [document.separator, document.text])
                .collect();
            assert_eq!(whole, text);
        }
    }

    #[test]
    fn the_head_is_what_is_said_before_the_first_field() {
        let head = |text| {
            let separator = "";
            Document { separator, text }.head()
        };
        assert_eq!(
            head("# who\n\n  # what\na: 1 # b\n# c\n"),
            "# who\n\n  # what\n"
        );
        assert_eq!(head("a: 1\n"), "");
        assert_eq!(head("# nothing\n"), "# nothing\n");
    }
}
