//! Progress of an import.

use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bar, share, records, how long it takes still.
const TEMPLATE: &str = "[{bar:30}] {percent:>3}% {pos}/{len} {eta}";

/// Lines of an import where nobody looks at a terminal.
const LINES: u64 = 10;

/// A bar on a terminal, and a line now and then elsewhere.
pub(super) struct Progress<'w> {
    bar: ProgressBar,
    err: &'w mut dyn Write,
    total: u64,
}

impl<'w> Progress<'w> {
    /// Progress of that many records; `err` is stderr, and `is_terminal` says whether it is a terminal.
    pub(super) fn new(err: &'w mut dyn Write, is_terminal: bool, total: usize) -> Self {
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self::on(target, err, total as u64)
    }

    fn on(target: ProgressDrawTarget, err: &'w mut dyn Write, total: u64) -> Self {
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style.progress_chars("#--"));
        Self { bar, err, total }
    }

    /// Shows that `done` records are written.
    pub(super) fn show(&mut self, done: usize) {
        let step = |done: u64| (done * LINES).checked_div(self.total).unwrap_or(LINES);
        let before = self.bar.position();
        let done = done as u64;
        self.bar.set_position(done);
        if self.bar.is_hidden() && (step(done) > step(before) || self.total == 0) {
            // Nobody is left to look when stderr is closed.
            let _ = writeln!(self.err, "{done} of {} records", self.total);
        }
    }

    /// Leaves the bar as it is, and its line.
    pub(super) fn end(self) {
        self.bar.abandon();
        if !self.bar.is_hidden() {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(self.err);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// A terminal of one line.
    #[derive(Debug, Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<String>>>);

    impl Terminal {
        fn write(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().last_mut().unwrap().push_str(text);
            Ok(())
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write(text)?;
            self.write("\n")
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.write(text)
        }

        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().push(String::new());
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_gets_one_line_that_is_written_over() {
        let terminal = Terminal(Arc::new(Mutex::new(vec![String::new()])));
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), u8::MAX);
        let mut rest = Vec::new();
        let mut progress = Progress::on(target, &mut rest, 1_000);
        (0..=1_000).for_each(|done| progress.show(done));
        progress.end();
        assert_eq!(rest, b"\n");
        let shown = terminal.0.lock().unwrap();
        assert!(shown.iter().all(|line| !line.trim_end().contains('\n')), "{shown:?}");
        let last = shown.last().unwrap();
        assert!(last.starts_with(&format!("[{}] 100% 1000/1000 ", "#".repeat(30))), "{shown:?}");
    }

    #[test]
    fn elsewhere_a_few_lines_tell_the_same() {
        let shown = |total: usize| {
            let mut text = Vec::new();
            let mut progress = Progress::new(&mut text, false, total);
            (0..=total).for_each(|done| progress.show(done));
            progress.end();
            String::from_utf8(text).unwrap()
        };
        let text = shown(1_000);
        assert_eq!(text.lines().count() as u64, LINES);
        assert_eq!(
            (text.lines().next(), text.lines().last()),
            (Some("100 of 1000 records"), Some("1000 of 1000 records"))
        );
        assert_eq!(shown(0), "0 of 0 records\n");
    }
}
