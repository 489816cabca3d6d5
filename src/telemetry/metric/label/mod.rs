//! Labels: closed sets of values, so that no peer can make a series.

mod coap;
mod device;
mod process;

pub use coap::{CoapCode, CoapDrop, CoapRefusal, HandshakeOutcome};
pub use device::{
    CloseCause, CommandOutcome, ConnectOutcome, ConnectionState, MessageResult, TlsHandshakeKind, Transport,
};
pub use process::{
    AnswerResult, CacheResult, CachedRecord, CertificateUse, ClaimFault, ClaimVerdict, HandOverFailure,
    KafkaCommandFate, ListenerCertificate, LogLevel, LookupResult, NatsRole, QueueResult, RegistryAnswer, ReloadResult,
    SpanOutcome,
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

/// Declares a label whose values are the variants of an enum.
macro_rules! label {
    ($(#[$doc:meta])* $label:literal $type:ident { $($(#[$of:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $($(#[$of])* $variant),+
        }

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
