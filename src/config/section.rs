//! Declaration of sections.

use super::reader::Reader;

/// A section, which reads its keys.
pub(super) trait Section {
    /// Reads the section of that name, and notes what is wrong with it. The whole configuration has the name "".
    fn read(reader: &mut Reader<'_>, name: &str) -> Self;
}

/// Declares a section: a struct, each of whose fields is the key of that name and has the call of [`Reader`] that reads it,
/// with its default and what it may be. `as` gives a key another name, which may have dots: `tls.ca`. The function behind
/// `checked by` looks at all of them.
macro_rules! section {
    ($(#[$doc:meta])* $type:ident $(checked by $check:path)? {
        $($(#[$of:meta])* $field:ident $(as $key:literal)?: $value:ty = $read:ident($($argument:expr),* $(,)?)),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $type {
            $($(#[$of])* #[doc = concat!("\n\n`", stringify!($read($($argument),*)), "`")] pub $field: $value,)+
        }

        impl $crate::config::section::Section for $type {
            fn read(reader: &mut $crate::config::reader::Reader<'_>, name: &str) -> Self {
                let dot = if name.is_empty() { "" } else { "." };
                let section = Self {
                    $($field: {
                        let key = [$($key,)? stringify!($field)][0];
                        reader.$read(&format!("{name}{dot}{key}"), $($argument),*)
                    },)+
                };
                $($check(&section, reader);)?
                section
            }
        }
    };
}
pub(super) use section;
