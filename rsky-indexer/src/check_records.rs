//! `indexer check-records`: says of each record why it would be refused.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};

use serde::Deserialize;

use crate::lexicon::validate;
use crate::text::json::Json;

/// The longest line that is read, in bytes. The longest record of the network has 1 MiB of CBOR.
pub const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    collection: Cow<'a, str>,
    #[serde(borrow)]
    record: Json<'a>,
}

/// Reads JSON lines `{"collection": …, "record": …}` and writes one line for each: `{"valid": true}` or
/// `{"valid": false, "reason": …}`. A line that is something else, or longer than [`MAX_LINE_BYTES`], is not valid
/// either; other keys are ignored.
///
/// # Errors
/// What reading or writing fails with.
pub fn check_records(mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(is_whole) = read_line(&mut input, &mut buffer, MAX_LINE_BYTES)? {
        let reason = if is_whole {
            refusal(&buffer)
        } else {
            Some(format!("the line is longer than {MAX_LINE_BYTES} bytes"))
        };
        match reason {
            None => writeln!(output, "{{\"valid\": true}}")?,
            Some(reason) => {
                writeln!(output, "{{\"valid\": false, \"reason\": {}}}", serde_json::to_string(&reason)?)?;
            }
        }
    }
    output.flush()
}

fn refusal(line: &[u8]) -> Option<String> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => return Some(format!("the line is not UTF-8: {error}")),
    };
    match serde_json::from_str::<Line<'_>>(text) {
        Ok(line) => validate(&line.collection, &line.record).err().map(|invalid| invalid.to_string()),
        Err(error) => Some(format!("the line is not {{\"collection\", \"record\"}} in JSON: {error}")),
    }
}

/// Reads a line without its end into `line`; of one longer than `max` bytes the rest is passed over and the answer is
/// `false`. `None` at the end of the input.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, max: usize) -> io::Result<Option<bool>> {
    line.clear();
    let mut is_whole = true;
    let mut is_started = false;
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if available.is_empty() {
            return Ok(is_started.then_some(is_whole));
        }
        is_started = true;
        let end = available.iter().position(|&b| b == b'\n');
        let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
        is_whole = is_whole && line.len() + part.len() <= max;
        if is_whole {
            line.extend_from_slice(part);
        }
        let consumed = part.len() + usize::from(end.is_some());
        input.consume(consumed);
        if end.is_some() {
            return Ok(Some(is_whole));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: impl BufRead) -> Vec<serde_json::Value> {
        let mut output = Vec::new();
        check_records(input, &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn one_line_of_output_for_each_of_input() {
        let input = concat!(
            r#"{"collection":"app.bsky.graph.block","record":{"$type":"app.bsky.graph.block","subject":"did:a:b","createdAt":"2024-01-01T00:00:00Z"},"x":1}"#,
            "\n",
            r#"{"collection":"app.bsky.graph.block","record":{"$type":"app.bsky.graph.block"}}"#,
            "\r\n",
            r#"{"collection":"com.example.x","record":{}}"#,
            "\n\n[]\n",
            r#"{"collection":"chat.bsky.actor.declaration","record":{"$type":"chat.bsky.actor.declaration","allowIncoming":"x"}}"#,
        );
        let results = run(input.as_bytes());
        let valid: Vec<_> = results.iter().map(|result| result["valid"].as_bool().unwrap()).collect();
        assert_eq!(valid, [true, false, false, false, false, true]);
        assert_eq!(results[1]["reason"], "Record must have the property \"subject\"");
        assert_eq!(results[2]["reason"], "No lexicon for this collection");
        assert!(results[0].get("reason").is_none());
    }

    #[test]
    fn the_wording_of_the_output() {
        let mut output = Vec::new();
        let record = r#"{"$type":"chat.bsky.actor.declaration","allowIncoming":"all"}"#;
        let line = format!(r#"{{"collection":"chat.bsky.actor.declaration","record":{record}}}"#);
        check_records(format!("{line}\n\u{1}\n").as_bytes(), &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert!(text.starts_with("{\"valid\": true}\n{\"valid\": false, \"reason\": \""), "{text}");
    }

    #[test]
    fn what_is_not_utf8_is_refused() {
        let results = run(&b"\"\xff\"\n"[..]);
        assert!(results[0]["reason"].as_str().unwrap().contains("UTF-8"));
    }

    #[test]
    fn a_line_beyond_the_limit_is_passed_over() {
        let mut line = Vec::new();
        let mut input = io::BufReader::with_capacity(4, &b"12345678\n123456789\n1234567890123\n\nend"[..]);
        let mut next = || {
            let found = read_line(&mut input, &mut line, 8).unwrap();
            (found, String::from_utf8(line.clone()).unwrap())
        };
        assert_eq!(next(), (Some(true), "12345678".to_owned()));
        assert_eq!(next().0, Some(false));
        assert_eq!(next().0, Some(false));
        assert_eq!(next(), (Some(true), String::new()));
        assert_eq!(next(), (Some(true), "end".to_owned()));
        assert_eq!(next().0, None);
    }

    #[test]
    fn a_long_line_is_not_held() {
        let mut line = Vec::new();
        let mut input = io::BufReader::new(io::Read::take(io::repeat(b'x'), 1 << 26));
        assert_eq!(read_line(&mut input, &mut line, 1 << 16).unwrap(), Some(false));
        assert!(line.capacity() <= 1 << 17);
    }
}
