//! Labels: closed sets of values, so that no peer can make a series.

mod coap;
mod device;
mod process;

pub use coap::{CoapCode, CoapRefusal, HandshakeOutcome};
pub use device::{CommandOutcome, ConnectOutcome, ConnectionState, MessageResult, TlsHandshakeKind, Transport};
pub use process::{
    AnswerResult, CacheResult, CachedRecord, CertificateUse, ClaimVerdict, HandOverFailure, KafkaCommandFate, LogLevel,
    LookupResult, NatsRole, QueueResult, RegistryAnswer, ReloadResult, SpanOutcome,
};

/// A label and the closed set of its values.
pub trait Label: Copy + 'static {
    /// Name of the label.
    const NAME: &'static str;

    /// Every value, in the order of [`Label::index`].
    fn all() -> impl Iterator<Item = Self>;

    /// Place of the value among all.
    fn index(self) -> usize;

    /// Text of the value.
    fn text(self) -> &'static str;
}

/// Labels of one metric: one label, or a pair of two.
pub trait Labels: Copy + 'static {
    /// Names of the labels.
    fn names() -> Vec<&'static str>;

    /// Every combination of values, in the order of [`Labels::place`].
    fn combinations() -> impl Iterator<Item = Self>;

    /// Place of the combination among all.
    fn place(self) -> usize;

    /// Texts of the values.
    fn texts(self) -> Vec<&'static str>;
}

impl<L: Label> Labels for L {
    fn names() -> Vec<&'static str> {
        vec![L::NAME]
    }

    fn combinations() -> impl Iterator<Item = Self> {
        L::all()
    }

    fn place(self) -> usize {
        self.index()
    }

    fn texts(self) -> Vec<&'static str> {
        vec![self.text()]
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    fn names() -> Vec<&'static str> {
        vec![A::NAME, B::NAME]
    }

    fn combinations() -> impl Iterator<Item = Self> {
        A::all().flat_map(|a| B::all().map(move |b| (a, b)))
    }

    fn place(self) -> usize {
        self.0.index() * B::all().count() + self.1.index()
    }

    fn texts(self) -> Vec<&'static str> {
        vec![self.0.text(), self.1.text()]
    }
}

/// Declares a label whose values are the variants of an enum: a new one, or with `for` one that there is, all of whose
/// variants are named in their order.
macro_rules! label {
    ($(#[$doc:meta])* $label:literal $type:ident { $($(#[$of:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $($(#[$of])* $variant),+
        }

        label! { $label for $type { $($variant = $text),+ } }
    };
    ($label:literal for $type:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl Label for $type {
            const NAME: &'static str = $label;

            fn all() -> impl Iterator<Item = Self> {
                [$($type::$variant),+].into_iter()
            }

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self {
                    $($type::$variant => $text),+
                }
            }
        }
    };
}
use label;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::envelope::Reason;
    use crate::protocol::topic::MessageKind;
    use crate::replica::claim::ClaimError;
    use crate::session::{coap, mqtt};

    #[test]
    fn a_label_of_another_room_has_its_values_in_their_order() {
        fn has_order<L: Label>() -> bool {
            L::all().enumerate().all(|(place, value)| value.index() == place)
        }
        assert!(has_order::<mqtt::Ending>() && has_order::<mqtt::DropReason>() && has_order::<coap::DropReason>());
        assert!(has_order::<ClaimError>() && has_order::<Reason>() && has_order::<MessageKind>());
    }
}
