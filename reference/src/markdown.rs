//! Markdown that says what it should whatever is in it.

/// The first line of a page that nobody edits.
pub(crate) const GENERATED: &str =
    "<!-- Generated from the code by `make generate`: do not edit. -->\n";

/// Text inside a cell of a table.
pub(crate) fn cell(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut escaped = String::new();
    let mut in_code = false;
    for letter in line.chars() {
        match letter {
            '`' => in_code = !in_code,
            // A table's column ends there, in code too.
            '|' => escaped.push('\\'),
            '<' if !in_code => {
                escaped.push_str("&lt;");
                continue;
            }
            _ => {}
        }
        escaped.push(letter);
    }
    escaped
}

/// As code, if there is any.
pub(crate) fn code(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else if text.contains('`') {
        format!("`` {text} ``")
    } else {
        format!("`{text}`")
    }
}

/// A table. Cells are Markdown already.
pub(crate) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let padded = |text: String| {
        if text.is_empty() {
            " ".to_owned()
        } else {
            format!(" {text} ")
        }
    };
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|it| padded(cell(it))).collect();
        format!("|{}|\n", cells.join("|"))
    };
    let mut text = line(head.iter().map(ToString::to_string).collect());
    text.push_str(&"|---".repeat(head.len()));
    text.push_str("|\n");
    rows.into_iter()
        .map(line)
        .for_each(|row| text.push_str(&row));
    text
}

/// A sentence's first letter as it begins a sentence.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_line_and_ends_no_column() {
        assert_eq!(cell("a|b\n  <port> `<c>`"), "a\\|b &lt;port> `<c>`");
    }

    #[test]
    fn a_table_has_a_row_of_dashes() {
        let rows = [vec!["a".to_owned(), String::new()]];
        assert_eq!(table(&["x", "y"], rows), "| x | y |\n|---|---|\n| a | |\n");
    }
}
