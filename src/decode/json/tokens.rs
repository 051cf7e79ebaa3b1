//! Finds the text of a value that is being visited: serde_json hands numbers over as doubles,
//! but a DECIMAL needs every digit and a STRING column the number or object as it is written.

use std::borrow::Cow;

/// Counts numbers, objects and arrays in the order in which they begin, and finds the start
/// of the current one by counting again in the text. Everything up to the current value has
/// been validated, so it is enough to tell strings from the rest. Nobody pays for the second
/// count but the values that need their text.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    /// Numbers, objects and arrays begun so far.
    begun: usize,
    /// Of these, how many lie before `position`.
    passed: usize,
    position: usize,
    /// Where the last of them starts.
    start: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            begun: 0,
            passed: 0,
            position: 0,
            start: 0,
        }
    }

    /// To be called once for each number, object or array, when it begins.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.begun += 1;
    }

    /// The text of the number that began last.
    pub(super) fn number(&mut self) -> &'a str {
        let start = self.start();
        &self.text[start..self.end_of_number(start)]
    }

    /// Where the number, object or array starts that began last.
    pub(super) fn start(&mut self) -> usize {
        let bytes = self.text.as_bytes();
        while self.passed < self.begun {
            let here = self.position;
            match bytes.get(here) {
                Some(b'"') => {
                    self.position = self.end_of_string(here);
                    continue;
                }
                Some(b'-' | b'0'..=b'9') => self.position = self.end_of_number(here),
                Some(b'{' | b'[') => self.position += 1,
                Some(_) => {
                    self.position += 1;
                    continue;
                }
                None => break,
            }
            self.start = here;
            self.passed += 1;
        }
        self.start
    }

    /// The text of the object or array that starts at `start` and has been visited to its end,
    /// without the blanks between its tokens.
    pub(super) fn container(&self, start: usize) -> Cow<'a, str> {
        let bytes = self.text.as_bytes();
        let (mut end, mut depth, mut blanks) = (start, 0_usize, false);
        while let Some(byte) = bytes.get(end) {
            match byte {
                b'"' => {
                    end = self.end_of_string(end);
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b' ' | b'\n' | b'\r' | b'\t' => blanks = true,
                _ => {}
            }
            end += 1;
            if depth == 0 {
                break;
            }
        }
        if blanks {
            Cow::Owned(self.compact(start, end))
        } else {
            self.text[start..end].into()
        }
    }

    fn compact(&self, start: usize, end: usize) -> String {
        let mut compact = String::with_capacity(end - start);
        let mut rest = start;
        while rest < end {
            let next = match self.text.as_bytes()[rest] {
                b'"' => self.end_of_string(rest),
                b' ' | b'\n' | b'\r' | b'\t' => {
                    rest += 1;
                    continue;
                }
                _ => rest + 1,
            };
            compact.push_str(&self.text[rest..next]);
            rest = next;
        }
        compact
    }

    fn end_of_number(&self, start: usize) -> usize {
        let rest = &self.text.as_bytes()[start..];
        let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        start + rest.iter().take_while(|b| is_part(b)).count()
    }

    /// After the closing quote of the string whose opening quote is at `start`.
    fn end_of_string(&self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut position = start + 1;
        while let Some(byte) = bytes.get(position) {
            position += match byte {
                b'"' => return position + 1,
                b'\\' => 2,
                _ => 1,
            };
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_each_value_in_turn() {
        let text = r#" {"1":[1.50,-2e3,{"a\"[7":true}], "b" : { "c d" : [ ] , "e":"\\" } ,"z":0} "#;
        let mut tokens = Tokens::new(text);
        let mut found = Vec::new();
        for _ in 0..8 {
            tokens.begin();
            let start = tokens.start();
            assert_eq!(start, tokens.start(), "asking again changes nothing");
            found.push(match text.as_bytes()[start] {
                b'{' | b'[' => tokens.container(start).into_owned(),
                _ => tokens.number().to_string(),
            });
        }
        let whole = r#"{"1":[1.50,-2e3,{"a\"[7":true}],"b":{"c d":[],"e":"\\"},"z":0}"#;
        let expected = [
            whole,
            r#"[1.50,-2e3,{"a\"[7":true}]"#,
            "1.50",
            "-2e3",
            r#"{"a\"[7":true}"#,
            r#"{"c d":[],"e":"\\"}"#,
            "[]",
            "0",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn values_that_nobody_asked_for_are_passed_over() {
        let mut tokens = Tokens::new(r#"{"a":[1,2,3],"b":"4","c":5.0}"#);
        (0..6).for_each(|_| tokens.begin());
        assert_eq!(tokens.number(), "5.0");
    }
}
