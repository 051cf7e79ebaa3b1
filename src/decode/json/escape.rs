//! The escapes of JSON strings (RFC 8259, section 7), with serde_json's strictness: surrogates
//! must come in pairs.

/// Appends what `text`, the text between two quotes, means. `None` for an escape that is none;
/// `to` then holds a part.
pub(super) fn unescape(text: &str, to: &mut String) -> Option<()> {
    let mut rest = text;
    while let Some(at) = backslash(rest.as_bytes()) {
        to.push_str(&rest[..at]);
        let (escape, after) = rest[at + 1..].split_at_checked(1)?;
        rest = after;
        to.push(match escape {
            "\"" => '"',
            "\\" => '\\',
            "/" => '/',
            "b" => '\u{8}',
            "f" => '\u{c}',
            "n" => '\n',
            "r" => '\r',
            "t" => '\t',
            "u" => {
                let (unit, after) = code_unit(rest)?;
                rest = after;
                match unit {
                    0xd800..=0xdbff => {
                        let (low, after) = code_unit(rest.strip_prefix("\\u")?)?;
                        rest = after;
                        let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                        char::from_u32(0x1_0000 + ((unit - 0xd800) << 10 | low))?
                    }
                    unit => char::from_u32(unit)?,
                }
            }
            _ => return None,
        });
    }
    to.push_str(rest);
    Some(())
}

/// The first backslash: often there is one right behind the last escape.
fn backslash(text: &[u8]) -> Option<usize> {
    match text.first() {
        Some(b'\\') => Some(0),
        _ => memchr::memchr(b'\\', text),
    }
}

/// Four hexadecimal digits, and what follows.
fn code_unit(text: &str) -> Option<(u32, &str)> {
    let digits = text.as_bytes().first_chunk::<4>()?;
    let unit = digits.iter().try_fold(0, |unit, digit| {
        Some(unit << 4 | char::from(*digit).to_digit(16)?)
    })?;
    Some((unit, &text[4..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_serde_json_reads_it(parts in prop::collection::vec(prop_oneof![
            Just("\\".to_string()),
            "[\"\\\\/bfnrtux]",
            "\\\\[\"\\\\/bfnrtux]",
            "\\\\u[0-9a-fA-F]{4}",
            "\\\\u[dD][89a-fA-F][0-9a-f]{2}",
            "\\\\ud83d\\\\ude0[0-9]",
            "[a-z é€😀]{0,4}",
        ], 0..8)) {
            let text = parts.concat();
            let json = format!("\"{text}\"");
            // A quote in the text would end it early.
            let quoted = memchr::memchr_iter(b'"', text.as_bytes()).any(|at| {
                text[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 0
            });
            prop_assume!(!quoted && text.chars().rev().take_while(|c| *c == '\\').count().is_multiple_of(2));
            let mut ours = String::new();
            let read = unescape(&text, &mut ours).map(|()| ours);
            prop_assert_eq!(read, serde_json::from_str::<String>(&json).ok());
        }
    }
}
