//! Errors as people read them: what, where (with the line and a caret), what to do next.

use crate::error::Error;
use std::path::Path;

/// The text of an error; `source` is the SQL file and its text.
pub fn text(error: &Error, source: Option<(&Path, &str)>) -> String {
    if let Error::Stopped(text) = error {
        return text.clone();
    }
    let mut out = format!("error: {error}");
    if let (Error::Sql { at: Some(at), .. }, Some((path, sql))) = (error, source) {
        let number = at.line.to_string();
        let margin = " ".repeat(number.len());
        out.push_str(&format!("\n{margin}--> {}:{at}", path.display()));
        if let Some(line) = sql.lines().nth((at.line as usize).saturating_sub(1)) {
            // Tabs keep their width, so that the caret stands where the terminal shows it.
            let before = line.chars().take((at.column as usize).saturating_sub(1));
            let pad: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            out.push_str(&format!(
                "\n{margin} |\n{number} | {line}\n{margin} | {pad}^"
            ));
        }
    }
    if let Some(hint) = error.hint().filter(|h| !h.is_empty()) {
        out.push_str(&format!("\nhint: {hint}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::At;

    #[test]
    fn shows_the_line_and_a_caret() {
        let error = Error::sql("unknown column 'pagee'")
            .or_at(At { line: 2, column: 8 })
            .with_hint("did you mean 'page'?");
        let shown = text(
            &error,
            Some((Path::new("q.sql"), "-- first\nSELECT pagee FROM t")),
        );
        assert_eq!(
            shown,
            "error: unknown column 'pagee'\n --> q.sql:2:8\n  |\n2 | SELECT pagee FROM t\n  |        ^\nhint: did you mean 'page'?"
        );
    }
}
