//! The page for people: the status as nested tables, refreshed by the browser.

use serde_json::Value;

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\
<meta name=\"viewport\" content=\"width=device-width\"><style>\
body{font:15px/1.4 system-ui,sans-serif;margin:1.5em;color:#222}\
table{border-collapse:collapse;margin:.1em 0}th,td{border:1px solid #ccc;padding:.15em .6em;text-align:left;vertical-align:top}\
th{background:#f4f4f4;font-weight:600}.bad{color:#b00020;font-weight:600}</style>";

/// Renders the status. Every name and value is escaped: some come from the network.
pub(super) fn render(name: &str, status: &Value) -> String {
    let mut html = String::from(HEAD);
    html.push_str("<title>");
    escape(&mut html, name);
    html.push_str("</title></head><body><h1>");
    escape(&mut html, name);
    html.push_str("</h1>");
    write_value(&mut html, status);
    html.push_str("<p><a href=\"/metrics\">metrics</a> <a href=\"/status\">status</a> <a href=\"/readyz\">readyz</a></p></body></html>");
    html
}

fn write_value(html: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => write_rows(html, fields.iter().map(|(name, value)| (name.as_str(), value))),
        Value::Array(items) => {
            let numbers: Vec<String> = (1..=items.len()).map(|number| number.to_string()).collect();
            write_rows(html, numbers.iter().map(String::as_str).zip(items));
        }
        Value::Bool(false) => html.push_str("<span class=\"bad\">no</span>"),
        Value::Bool(true) => html.push_str("yes"),
        Value::Null => html.push('–'),
        Value::String(text) => escape(html, text),
        Value::Number(number) => html.push_str(&number.to_string()),
    }
}

fn write_rows<'a>(html: &mut String, rows: impl Iterator<Item = (&'a str, &'a Value)>) {
    html.push_str("<table>");
    for (name, value) in rows {
        html.push_str("<tr><th>");
        escape(html, &name.replace('_', " "));
        html.push_str("</th><td>");
        match value.as_u64().filter(|_| name.ends_with("_bytes")) {
            Some(bytes) => html.push_str(&mebibytes(bytes)),
            None => write_value(html, value),
        }
        html.push_str("</td></tr>");
    }
    html.push_str("</table>");
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn escape(html: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            _ => html.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn escapes_and_nests() {
        let page =
            render("x", &json!({"a<b": {"ready": false, "used_bytes": 1_572_864, "list": ["<script>"]}}));
        assert!(
            page.contains("a&lt;b") && page.contains("1.5 MiB") && page.contains("&lt;script&gt;"),
            "{page}"
        );
        assert!(!page.contains("<script>"));
    }
}
