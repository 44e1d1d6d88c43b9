//! Block YAML of a tree, as people write it, that every reader reads alike: a string that YAML 1.1 or 1.2 could take for anything else is quoted.

use std::fmt::Write;

use super::tree::Tree;

/// Of a whole document. Ends with a line's end.
pub(super) fn yaml(tree: &Tree) -> String {
    let mut out = String::new();
    match tree {
        Tree::Map(fields) if !fields.is_empty() => map(&mut out, fields, 0),
        Tree::List(items) if !items.is_empty() => list(&mut out, items, 0),
        tree => value(&mut out, tree, 0),
    }
    out
}

fn map(out: &mut String, fields: &[(String, Tree)], indent: usize) {
    for (at, (name, tree)) in fields.iter().enumerate() {
        // The first field of a list's item stands behind its dash.
        if at > 0 || !out.ends_with("- ") {
            pad(out, indent);
        }
        scalar(out, name);
        out.push(':');
        match tree {
            Tree::Map(fields) if !fields.is_empty() => {
                out.push('\n');
                map(out, fields, indent + 2);
            }
            Tree::List(items) if !items.is_empty() => {
                out.push('\n');
                list(out, items, indent);
            }
            tree => {
                out.push(' ');
                value(out, tree, indent + 2);
            }
        }
    }
}

fn list(out: &mut String, items: &[Tree], indent: usize) {
    for item in items {
        if !out.ends_with("- ") {
            pad(out, indent);
        }
        out.push_str("- ");
        match item {
            Tree::Map(fields) if !fields.is_empty() => map(out, fields, indent + 2),
            Tree::List(items) if !items.is_empty() => list(out, items, indent + 2),
            item => value(out, item, indent + 2),
        }
    }
}

/// Whatever fits behind a colon or a dash, to the end of its line or lines.
fn value(out: &mut String, tree: &Tree, indent: usize) {
    match tree {
        Tree::Null => out.push_str("null"),
        Tree::Bool(value) => write(out, value),
        Tree::Number(number) => write(out, number),
        Tree::Text(text) if is_block(text) => return block(out, text, indent),
        Tree::Text(text) => scalar(out, text),
        Tree::List(_) => out.push_str("[]"),
        Tree::Map(_) => out.push_str("{}"),
    }
    out.push('\n');
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn write(out: &mut String, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("writing to a String cannot fail");
}

fn scalar(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
    } else {
        quoted(out, text);
    }
}

/// Words that some reader takes for no string.
const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

/// A word, a path or a name: what begins like a number, or has a sign of YAML's in it, is quoted.
fn is_plain(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-./@+".contains(c);
    // A colon in an image or an address stands before something other than a space.
    let mut parts = text.split(':');
    let is_word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    begins && !is_word && parts.all(|part| !part.is_empty() && part.chars().all(allowed))
}

/// As in JSON, which is YAML but for what a reader of YAML may refuse.
fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) > 0xffff => write(out, format_args!("\\U{:08x}", u32::from(c))),
            c => write(out, format_args!("\\u{:04x}", u32::from(c))),
        }
    }
    out.push('"');
}

fn is_printable(c: char) -> bool {
    let is_break = matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    !c.is_control() && !is_break && !matches!(u32::from(c), 0xfffe | 0xffff)
}

/// Several lines that can be written as they are: a certificate, a script.
fn is_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !body.starts_with([' ', '\n'])
        && !body.ends_with(['\n', ' '])
        && body.chars().all(|c| c == '\n' || is_printable(c))
}

fn block(out: &mut String, text: &str, indent: usize) {
    let indent = indent.max(2);
    out.push_str(if text.ends_with('\n') { "|\n" } else { "|-\n" });
    for line in text.lines() {
        if !line.is_empty() {
            pad(out, indent);
        }
        out.push_str(line);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::read;
    use super::*;

    #[test]
    fn it_looks_as_people_write_it() {
        let text = concat!(
            "kind: Pod\n",
            "metadata:\n",
            "  name: web\n",
            "  annotations: {}\n",
            "spec:\n",
            "  containers:\n",
            "  - name: app\n",
            "    image: registry:5000/web:1\n",
            "    args:\n",
            "    - \"--port=80\"\n",
            "    - - a\n",
            "      - b: 1\n",
            "    - |\n",
            "      set -e\n",
            "\n",
            "      run\n",
            "    ports: []\n",
            "  nothing: null\n",
        );
        assert_eq!(yaml(&read(text).unwrap()), text);
    }

    #[test]
    fn what_some_reader_takes_for_something_else_is_quoted() {
        for text in [
            "",
            "yes",
            "No",
            "ON",
            "y",
            "null",
            "~",
            "1",
            "0644",
            "1e3",
            ".5",
            "0x1f",
            "1:30",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "[",
            "{",
            "a,b",
            "=",
            "<<",
            "2026-01-01",
            ".inf",
            "a:",
            ":a",
            " a",
            "a ",
            "|",
            ">",
            "?",
            "true",
            "_1",
            "\u{7f}",
            "\u{feff}",
            "\u{2028}",
            "a\tb",
            "\\",
            "\"",
            "a\r\nb",
            "\n",
            "a\n\n",
            " a\nb",
        ] {
            let tree = Tree::Map(vec![(text.to_owned(), Tree::Text(text.to_owned()))]);
            let written = yaml(&tree);
            assert!(written.starts_with('"'), "{written}");
            assert_eq!(read(&written), Ok(tree), "{written}");
        }
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![
            Just(Tree::Null),
            any::<bool>().prop_map(Tree::Bool),
            any::<i64>().prop_map(|number| Tree::Number(number.into())),
            any::<String>().prop_map(Tree::Text),
            "[ -~\n]{0,12}".prop_map(Tree::Text),
            "[a-z \n]{0,12}".prop_map(Tree::Text),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..5).prop_map(Tree::List);
            let names = proptest::collection::btree_map("[ -~]{0,6}", inner, 0..5);
            let map = names.prop_map(|fields| Tree::Map(fields.into_iter().collect()));
            prop_oneof![list, map]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(tree in trees()) {
            let written = yaml(&tree);
            prop_assert_eq!(read(&written), Ok(tree), "{}", written);
        }
    }
}
