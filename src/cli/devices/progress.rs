//! How far an import is.

use std::io::Write;

/// Width of the bar in characters.
const WIDTH: usize = 30;

/// Lines of an import where nobody looks at a terminal.
const LINES: usize = 10;

/// Shows a bar on a terminal, and a line now and then elsewhere.
pub(super) struct Progress<'w> {
    to: &'w mut dyn Write,
    is_terminal: bool,
    total: usize,
    shown: Option<usize>,
}

impl<'w> Progress<'w> {
    /// Shows nothing yet.
    pub(super) fn new(to: &'w mut dyn Write, is_terminal: bool, total: usize) -> Self {
        Self { to, is_terminal, total, shown: None }
    }

    /// So many are done.
    pub(super) fn show(&mut self, done: usize) {
        let steps = if self.is_terminal { 100 } else { LINES };
        let step = (done * steps).checked_div(self.total).unwrap_or(steps);
        if self.shown == Some(step) || (step == 0 && !self.is_terminal) {
            return;
        }
        self.shown = Some(step);
        let total = self.total;
        // Nobody is left to look when stderr is closed.
        let _ = if self.is_terminal {
            let filled = step * WIDTH / 100;
            let (full, empty) = ("#".repeat(filled), "-".repeat(WIDTH - filled));
            write!(self.to, "\r[{full}{empty}] {step:3}% {done}/{total}").and_then(|()| self.to.flush())
        } else {
            writeln!(self.to, "{done} of {total} records")
        };
    }

    /// Leaves the line of the bar.
    pub(super) fn end(self) {
        if self.is_terminal && self.shown.is_some() {
            // As above.
            let _ = writeln!(self.to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(is_terminal: bool, total: usize) -> String {
        let mut text = Vec::new();
        let mut progress = Progress::new(&mut text, is_terminal, total);
        (0..=total).for_each(|done| progress.show(done));
        progress.end();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_terminal_gets_one_line_that_is_written_over() {
        let text = shown(true, 1_000);
        assert_eq!((text.matches('\r').count(), text.matches('\n').count()), (101, 1));
        assert!(text.starts_with(&format!("\r[{}]   0% 0/1000", "-".repeat(WIDTH))), "{text:?}");
        assert!(text.ends_with(&format!("\r[{}] 100% 1000/1000\n", "#".repeat(WIDTH))), "{text:?}");
    }

    #[test]
    fn elsewhere_a_few_lines_tell_the_same() {
        let text = shown(false, 1_000);
        assert_eq!(text.lines().count(), LINES);
        assert_eq!(
            (text.lines().next(), text.lines().last()),
            (Some("100 of 1000 records"), Some("1000 of 1000 records"))
        );
        assert_eq!(shown(false, 0), "0 of 0 records\n");
    }
}
