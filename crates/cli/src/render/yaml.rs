//! JSON documents as YAML: block style, every text quoted as JSON quotes it.

use serde_json::Value;

/// The document, ending in a newline.
pub(crate) fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value, 0);
    let trimmed = text.trim_start_matches(['\n', ' ']);
    format!("{trimmed}\n")
}

/// Writes ` value` for a scalar, or the lines of a list or a mapping below what stands before.
fn write_value(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                new_line(text, depth);
                text.push('-');
                write_item(text, item, depth + 1);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                new_line(text, depth);
                write_field(text, key, value, depth);
            }
        }
        scalar => {
            text.push(' ');
            text.push_str(&scalar.to_string());
        }
    }
}

/// A list's item: a mapping begins on the line of its dash.
fn write_item(text: &mut String, item: &Value, depth: usize) {
    let Value::Object(fields) = item else { return write_value(text, item, depth) };
    if fields.is_empty() {
        return write_value(text, item, depth);
    }
    for (index, (key, value)) in fields.iter().enumerate() {
        if index == 0 {
            text.push(' ')
        } else {
            new_line(text, depth)
        }
        write_field(text, key, value, depth);
    }
}

fn write_field(text: &mut String, key: &str, value: &Value, depth: usize) {
    if is_plain(key) {
        text.push_str(key);
    } else {
        text.push_str(&Value::from(key).to_string());
    }
    text.push(':');
    write_value(text, value, depth + 1);
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

/// Keys of our own; anything else is quoted, so that no label reads as another type.
fn is_plain(key: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c == '_';
    let special = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&key);
    !key.is_empty() && key.chars().all(letter) && !special
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_and_mappings_are_blocks_and_texts_are_quoted() {
        let value = json!({
            "schema": 1,
            "jobs": [{ "id": 1, "labels": { "no": "x: y", "a-b": null }, "children": [2, 3] }],
            "empty": [],
        });
        assert_eq!(
            to_yaml(&value),
            "schema: 1\njobs:\n  - id: 1\n    labels:\n      \"no\": \"x: y\"\n      \
             \"a-b\": null\n    \
             children:\n      - 2\n      - 3\nempty: []\n"
        );
        assert_eq!(to_yaml(&json!("text")), "\"text\"\n");
    }
}
