//! A smaller world in which something fails as well: less to look through.

use anyhow::Result;

/// Events of a history and of a stream below which a world is not made smaller.
const LEAST: u64 = 100;

/// The smallest world found in which `fails` says that it fails, by halves, in at most `runs` more runs: first the stream, of which
/// the shorter is the beginning of the longer, then the history. `from` where a smaller one does not fail.
///
/// # Errors
/// Those of `fails`.
pub(crate) fn smallest(
    from: [u64; 2],
    runs: u32,
    mut fails: impl FnMut([u64; 2]) -> Result<bool>,
) -> Result<[u64; 2]> {
    let ([mut history, mut stream], mut left) = (from, runs);
    while stream > LEAST && left > 0 {
        left -= 1;
        let half = (stream / 2).max(LEAST);
        if !fails([history, half])? {
            break;
        }
        stream = half;
    }
    while history > LEAST && left > 0 {
        left -= 1;
        let half = (history / 2).max(LEAST);
        if !fails([half, stream])? {
            break;
        }
        history = half;
    }
    Ok([history, stream])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_until_it_does_not_fail() {
        let found = |least: [u64; 2], runs| {
            let mut asked = 0;
            let fails = |[history, stream]: [u64; 2]| {
                asked += 1;
                Ok(history >= least[0] && stream >= least[1])
            };
            (smallest([1500, 2500], runs, fails).unwrap(), asked)
        };
        assert_eq!(found([700, 600], 9), ([750, 625], 5));
        assert_eq!(found([0, 0], 99), ([LEAST, LEAST], 9));
        assert_eq!(found([0, 0], 2), ([1500, 625], 2));
        assert_eq!(found([1500, 2500], 9), ([1500, 2500], 2));
    }
}
