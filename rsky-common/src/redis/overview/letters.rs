//! The newest dead letters of a stream: how many of which reason, and an example of each.

use super::look::answer;
use crate::admin::seen::{Example, Letters, Told};
use crate::admin::{SHOWN, shown};
use crate::redis::{LinkError, RedisLink};
use crate::wire::names::dead_letter_stream;

/// Letters that are looked at, at most.
const MOST: usize = 200;
/// Bytes of letters after which no more are looked at: one may hold a payload of 1 MiB.
const MOST_BYTES: usize = 1 << 20;
/// Reasons shown; they are words of closed sets, and nobody else writes letters.
const REASONS: usize = 20;

/// Goes back through the letters one by one, since each may be large, and returns the beginnings of texts only.
const NEWEST: &str = r"
local found, bytes, before = {}, 0, '+'
while #found < tonumber(ARGV[1]) and bytes < tonumber(ARGV[2]) do
    local entry = redis.call('XREVRANGE', KEYS[1], before, '-', 'COUNT', 1)[1]
    if not entry then break end
    local letter = {entry[1], '', '', ''}
    for at = 1, #entry[2], 2 do
        local name, value = entry[2][at], entry[2][at + 1]
        bytes = bytes + #value
        if name == 'reason' then letter[2] = string.sub(value, 1, 80) end
        if name == 'error' then letter[3] = string.sub(value, 1, 300) end
        if name == 'source_id' then letter[4] = string.sub(value, 1, 200) end
    end
    found[#found + 1] = letter
    before = '(' .. entry[1]
end
return found";

pub(super) async fn newest(link: &mut RedisLink, stream: &str) -> Result<Told<Letters>, LinkError> {
    let mut command = redis::cmd("EVAL");
    command.arg(NEWEST).arg(1).arg(dead_letter_stream(stream)).arg(MOST).arg(MOST_BYTES);
    let answered = answer::<Vec<[Vec<u8>; 4]>>(link, &command).await?;
    Ok(answered.map(|letters| by_reason(letters.iter().map(example))))
}

fn example(letter: &[Vec<u8>; 4]) -> Example {
    // Texts of the network are among them, and were cut anywhere.
    let [id, reason, error, source] =
        letter.each_ref().map(|bytes| shown(&String::from_utf8_lossy(bytes), SHOWN));
    Example { id, reason, error, source }
}

fn by_reason(newest: impl Iterator<Item = Example>) -> Letters {
    let mut letters = Letters::default();
    for example in newest {
        letters.looked_at += 1;
        if let Some((_, count)) = letters.by_reason.iter_mut().find(|(reason, _)| *reason == example.reason) {
            *count += 1;
        } else if letters.by_reason.len() < REASONS {
            letters.by_reason.push((example.reason.clone(), 1));
            letters.examples.push(example);
        }
    }
    letters.by_reason.sort_by(|(_, left), (_, right)| right.cmp(left));
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_reasons_and_keeps_the_newest_of_each() {
        let letter = |number: usize, reason: &str| Example {
            id: number.to_string(),
            reason: reason.to_owned(),
            error: String::new(),
            source: String::new(),
        };
        let letters = by_reason(
            [letter(9, "a"), letter(8, "b"), letter(7, "b")]
                .into_iter()
                .chain((0..50).map(|n| letter(n, &n.to_string()))),
        );
        assert_eq!(letters.looked_at, 53);
        assert_eq!(
            letters.by_reason.iter().take(2).cloned().collect::<Vec<_>>(),
            [("b".to_owned(), 2), ("a".to_owned(), 1)]
        );
        assert_eq!((letters.by_reason.len(), letters.examples.len()), (REASONS, REASONS));
        assert_eq!((letters.examples[0].id.as_str(), letters.examples[1].id.as_str()), ("9", "8"));
    }
}
