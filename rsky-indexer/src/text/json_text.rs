//! A JSON tree as text, in the form of JavaScript's `JSON.stringify`.

use rsky_common::wire::json_text::{push_float, push_string};

use super::json::Json;

/// The text of a value: no spaces, keys in the order they have.
pub fn to_json_text(value: &Json<'_>) -> String {
    let mut out = String::new();
    push(&mut out, value);
    out
}

fn push(out: &mut String, value: &Json<'_>) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(true) => out.push_str("true"),
        Json::Bool(false) => out.push_str("false"),
        Json::Number(number) => push_float(out, *number),
        Json::String(text) => push_string(out, text),
        Json::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                push(out, item);
            }
            out.push(']');
        }
        Json::Object(entries) => {
            out.push('{');
            for (at, (key, item)) in entries.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                push_string(out, key);
                out.push(':');
                push(out, item);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_as_it_was() {
        for text in
            [r#"[{"index":{"byteEnd":5,"byteStart":0},"features":[{"tag":"é\n","n":1.5}]},null,true]"#, "[]"]
        {
            assert_eq!(to_json_text(&Json::parse(text).unwrap()), text);
        }
    }
}
