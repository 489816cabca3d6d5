//! Numbers of lines.

/// Where the lines of a text end; finds the number of a line fast enough for 100,000 mistakes.
pub(super) struct Lines {
    ends: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self { ends: memchr::memchr_iter(b'\n', text.as_bytes()).collect() }
    }

    /// The number of the line, from 1, that holds the byte at `offset`.
    pub(super) fn number(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_after_the_end_of_the_one_before() {
        let lines = Lines::of("a\nb\n");
        assert_eq!([0, 1, 2, 3, 4].map(|offset| lines.number(offset)), [1, 1, 2, 2, 3]);
    }
}
