//! Trouble that is logged when it changes, and not at each attempt.

/// The trouble that the log was told last.
#[derive(Debug)]
pub(crate) struct LastTrouble<T> {
    told: Option<T>,
}

impl<T> Default for LastTrouble<T> {
    fn default() -> Self {
        Self { told: None }
    }
}

impl<T: Clone + PartialEq> LastTrouble<T> {
    /// Whether this is another trouble than the last one, or all was well between: then it is to be logged.
    pub(crate) fn is_news(&mut self, trouble: &T) -> bool {
        let is_news = self.told.as_ref() != Some(trouble);
        if is_news {
            self.told = Some(trouble.clone());
        }
        is_news
    }

    /// Notes that all is well.
    pub(crate) fn clear(&mut self) {
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_news_when_it_changes_and_when_all_was_well_between() {
        let mut last = LastTrouble::default();
        assert_eq!(["a", "a", "b", "a"].map(|trouble| last.is_news(&trouble)), [true, false, true, true]);
        last.clear();
        assert!(last.is_news(&"a"));
    }
}
