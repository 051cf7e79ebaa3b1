//! Which fragments are of one session.

use crate::window::assign::AHEAD;

/// Rows of one key that are of one session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    pub key: usize,
    /// [`AHEAD`], or the watermark that it was behind.
    pub from_end: i64,
    pub span: Span,
    /// Its place among all.
    pub row: usize,
}

/// Event times of the first row and the last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub first: i64,
    pub last: i64,
}

impl Span {
    pub fn end(&self, gap: i64) -> i64 {
        self.last.saturating_add(gap)
    }

    fn touches(&self, other: &Span, gap: i64) -> bool {
        self.first <= other.end(gap) && other.first <= self.end(gap)
    }

    fn join(&mut self, other: &Span) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// The session of each fragment by its place, and the sessions. (Those that others were joined to
/// have no fragment.)
pub(super) fn stitch(mut fragments: Vec<Fragment>, gap: i64) -> (Vec<usize>, Vec<Span>) {
    fragments.sort_unstable_by_key(|f| (f.key, f.from_end, f.span.first, f.row));
    let mut spans: Vec<Span> = Vec::new();
    let mut joined_to: Vec<usize> = Vec::new();
    let mut sessions = vec![0; fragments.len()];
    let mut open: Vec<usize> = Vec::new();
    for of_key in fragments.chunk_by(|a, b| a.key == b.key) {
        open.clear();
        for fragment in of_key {
            let mut span = fragment.span;
            // Of fragments that are ahead, which come by their first rows, the last can touch.
            let mut from = open.len().saturating_sub(1);
            if fragment.from_end != AHEAD {
                open.retain(|s| spans[*s].end(gap) > fragment.from_end);
                from = 0;
            }
            let touching: Vec<usize> = open
                .extract_if(from.., |s| spans[*s].touches(&span, gap))
                .collect();
            let session = touching.first().copied().unwrap_or_else(|| {
                joined_to.push(spans.len());
                spans.push(span);
                spans.len() - 1
            });
            for other in touching {
                span.join(&spans[other]);
                joined_to[other] = session;
            }
            spans[session] = span;
            open.push(session);
            sessions[fragment.row] = session;
        }
    }
    for session in &mut sessions {
        while joined_to[*session] != *session {
            *session = joined_to[*session];
        }
    }
    (sessions, spans)
}

#[cfg(test)]
mod tests;
