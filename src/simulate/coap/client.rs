//! One simulated device of CoAP, without sockets and clock.

use super::Security;
use crate::codec::coap::{Code, Kind, Message, MessageBuilder, MessageToken, decode, empty, option};
use crate::protocol::cipher;
use crate::session::coap::sign_token_request;
use crate::simulate::counters::{Counters, End};
use crate::simulate::driver::Device;
use crate::simulate::fleet::Step;
use crate::simulate::identities::Identity;
use crate::simulate::plan::Plan;
use crate::simulate::report::ReportFacts;

/// ACK_TIMEOUT of RFC 7252: a CON is sent again after this, then after twice the time, and so on.
const ACK_TIMEOUT_NS: u64 = 2_000_000_000;

/// MAX_RETRANSMIT.
const RETRANSMISSIONS_MAX: u32 = 4;

/// How long an answer of its own may take after an empty ACK.
const SEPARATE_NS: u64 = 30_000_000_000;

/// A schedule that fell behind is caught up with this far at most.
const CATCH_UP_NS: u64 = 1_000_000_000;

/// How long a request waits that was answered 5.03.
const RETRY_NS: u64 = 1_000_000_000;

/// A request that waits for its answer.
#[derive(Debug)]
struct Exchange {
    datagram: Vec<u8>,
    token: MessageToken,
    sent_ns: u64,
    due_ns: u64,
    timeout_ns: u64,
    retransmissions: u32,
    purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Token,
    Report,
}

#[derive(Debug)]
enum Proof {
    Key([u8; cipher::KEY_BYTES]),
    /// The secret, and the token that it got on this link.
    Token(String, Option<Vec<u8>>),
}

/// A simulated device.
#[derive(Debug)]
pub(in crate::simulate) struct Client {
    index: u32,
    id: String,
    path: String,
    proof: Proof,
    exchange: Option<Exchange>,
    /// Report that was sent and is not confirmed: number and time.
    open: Option<(u64, u64)>,
    last_n: u64,
    links: u32,
    is_connected: bool,
    was_connected: bool,
    message_number: u32,
    next_due_ns: u64,
    not_before_ns: u64,
    outgoing: Vec<Vec<u8>>,
}

impl Client {
    /// A device that has said nothing yet; its first report is due at that time. `None` when its key cannot encrypt.
    pub(in crate::simulate) fn new(
        index: u32,
        identity: &Identity,
        security: &Security,
        first_due_ns: u64,
    ) -> Option<Self> {
        let proof = match security {
            Security::Aes => Proof::Key(*cipher::key(&identity.secure_key)?),
            Security::Dtls(..) => Proof::Token(identity.secure_key.clone(), None),
        };
        Some(Self {
            index,
            id: identity.device.clone(),
            path: format!("/{}/{}/properties/report", identity.product, identity.device),
            proof,
            exchange: None,
            open: None,
            last_n: 0,
            links: 0,
            is_connected: false,
            was_connected: false,
            message_number: index.wrapping_mul(0x9e37),
            next_due_ns: first_due_ns,
            not_before_ns: 0,
            outgoing: Vec::new(),
        })
    }

    /// Begins on another link.
    pub(super) fn open(&mut self) {
        self.links += 1;
    }

    /// The messages to be sent; leaves none.
    pub(super) fn take_outgoing(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.outgoing)
    }

    /// Takes a message in.
    ///
    /// # Errors
    /// The link is of no more use, for the reason returned.
    pub(super) fn receive(&mut self, datagram: &[u8], step: &mut Step<'_>) -> Result<(), End> {
        let Ok(message) = decode(datagram) else { return Err(End::Malformed) };
        if message.kind() == Kind::Confirmable {
            self.outgoing.push(empty(Kind::Acknowledgement, message.id()).to_vec());
        }
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        if message.code() == Code::EMPTY {
            let own_id = exchange.datagram.get(2..4).is_some_and(|id| id == message.id().to_be_bytes());
            if own_id && message.kind() == Kind::Acknowledgement {
                exchange.due_ns = step.now_ns + SEPARATE_NS;
                exchange.retransmissions = RETRANSMISSIONS_MAX;
            }
            return Ok(());
        }
        if message.token() != exchange.token {
            return Ok(());
        }
        let (purpose, sent_ns) = (exchange.purpose, exchange.sent_ns);
        self.exchange = None;
        match (purpose, message.code()) {
            (Purpose::Report, Code::CREATED) => self.confirm(sent_ns, step),
            (Purpose::Token, Code::CONTENT) => self.take_token(&message, step)?,
            (_, Code::SERVICE_UNAVAILABLE) => self.not_before_ns = step.now_ns + RETRY_NS,
            (_, code) => return Err(End::Answered(code)),
        }
        Ok(())
    }

    /// Sends what is due, for the first time or again. New reports only if `fresh`.
    ///
    /// # Errors
    /// Nobody answers.
    pub(super) fn produce(&mut self, fresh: bool, step: &mut Step<'_>) -> Result<(), End> {
        if let Some(exchange) = &mut self.exchange {
            if step.now_ns < exchange.due_ns {
                return Ok(());
            }
            if exchange.retransmissions == RETRANSMISSIONS_MAX {
                self.exchange = None;
                return Err(End::NoAnswer);
            }
            exchange.retransmissions += 1;
            exchange.timeout_ns *= 2;
            exchange.due_ns = step.now_ns + exchange.timeout_ns;
            self.outgoing.push(exchange.datagram.clone());
            return Ok(());
        }
        if step.now_ns < self.not_before_ns {
            return Ok(());
        }
        if matches!(self.proof, Proof::Token(_, None)) {
            self.ask_for_token(step);
            return Ok(());
        }
        if let Some((n, timestamp_ms)) = self.open {
            step.counters.count_resent(self.index, n);
            self.report(n, timestamp_ms, step);
            return Ok(());
        }
        if !fresh || self.last_n >= step.plan.count || step.now_ns < self.next_due_ns {
            return Ok(());
        }
        let next_ns = self.next_due_ns + step.plan.interval_ns;
        self.next_due_ns = next_ns.max(step.now_ns.saturating_sub(CATCH_UP_NS));
        self.last_n += 1;
        step.counters.count_sent(self.index, self.last_n);
        self.open = Some((self.last_n, step.wall_ms));
        self.report(self.last_n, step.wall_ms, step);
        Ok(())
    }

    /// When it must be given a step again even if nothing arrives; `u64::MAX`: never. `fresh` as for `produce`.
    pub(super) fn deadline_ns(&self, fresh: bool, plan: &Plan) -> u64 {
        match &self.exchange {
            Some(exchange) => exchange.due_ns,
            None if self.open.is_some() || matches!(self.proof, Proof::Token(_, None)) => self.not_before_ns,
            None if fresh && self.last_n < plan.count => self.next_due_ns.max(self.not_before_ns),
            None => u64::MAX,
        }
    }

    fn confirm(&mut self, sent_ns: u64, step: &mut Step<'_>) {
        self.connect(step);
        if let Some((n, _)) = self.open.take() {
            step.counters.count_acknowledged(self.index, n, step.now_ns.saturating_sub(sent_ns));
        }
    }

    fn take_token(&mut self, message: &Message, step: &mut Step<'_>) -> Result<(), End> {
        let answer: serde_json::Value = serde_json::from_slice(message.payload()).map_err(|_| End::Malformed)?;
        let given = answer["token"].as_str().ok_or(End::Malformed)?;
        if let Proof::Token(_, token) = &mut self.proof {
            *token = Some(given.as_bytes().to_vec());
        }
        self.connect(step);
        Ok(())
    }

    /// Counts the first success on a link.
    fn connect(&mut self, step: &mut Step<'_>) {
        if std::mem::replace(&mut self.is_connected, true) {
            return;
        }
        let was_connected = std::mem::replace(&mut self.was_connected, true);
        step.counters.count_connect(was_connected, step.now_ns);
    }

    fn ask_for_token(&mut self, step: &mut Step<'_>) {
        let Proof::Token(secure_key, _) = &self.proof else { return };
        let payload = format!("{{\"timestamp\":\"{}\"}}", step.wall_ms);
        let signature = sign_token_request(payload.as_bytes(), secure_key);
        let (draft, token) = self.draft("/auth");
        let draft = draft.option(option::SIGNATURE, &signature).payload(payload.as_bytes());
        self.send(Purpose::Token, token, &draft, step);
    }

    fn report(&mut self, n: u64, timestamp_ms: u64, step: &mut Step<'_>) {
        step.scratch.clear();
        step.template.append(step.scratch, ReportFacts { n, connection: self.links, timestamp_ms });
        let path = std::mem::take(&mut self.path);
        let (draft, token) = self.draft(&path);
        self.path = path;
        let draft = match &self.proof {
            Proof::Key(key) => draft.payload(&cipher::encrypt(key, step.scratch)),
            Proof::Token(_, own) => {
                draft.option(option::TOKEN, own.as_deref().unwrap_or_default()).payload(step.scratch)
            }
        };
        self.send(Purpose::Report, token, &draft, step);
    }

    /// A CON POST, and its token.
    fn draft(&mut self, path: &str) -> (MessageBuilder, MessageToken) {
        self.message_number = self.message_number.wrapping_add(1);
        let bytes = self.message_number.to_be_bytes();
        let token = MessageToken::new(&bytes).unwrap_or_default();
        let id = u16::from_be_bytes([bytes[2], bytes[3]]);
        let draft = MessageBuilder::new(Kind::Confirmable, Code::POST, id, token).path(path);
        (draft.option(option::DEVICE_ID, self.id.as_bytes()), token)
    }

    fn send(&mut self, purpose: Purpose, token: MessageToken, draft: &MessageBuilder, step: &Step<'_>) {
        let datagram = draft.encode();
        self.outgoing.push(datagram.clone());
        // ACK_RANDOM_FACTOR: devices that began together do not repeat together.
        let timeout_ns = ACK_TIMEOUT_NS + u64::from(self.message_number % 1000) * (ACK_TIMEOUT_NS / 2000);
        self.exchange = Some(Exchange {
            datagram,
            token,
            sent_ns: step.now_ns,
            due_ns: step.now_ns + timeout_ns,
            timeout_ns,
            retransmissions: 0,
            purpose,
        });
    }
}

impl Device for Client {
    fn close(&mut self, counters: &mut Counters) {
        if std::mem::take(&mut self.is_connected) {
            counters.connected -= 1;
        }
        self.exchange = None;
        self.outgoing.clear();
        if let Proof::Token(_, token) = &mut self.proof {
            *token = None;
        }
    }

    fn is_connected(&self) -> bool {
        self.is_connected
    }

    fn was_connected(&self) -> bool {
        self.was_connected
    }

    fn is_settled(&self) -> bool {
        self.open.is_none()
    }

    fn is_done(&self, plan: &Plan) -> bool {
        plan.count != 0 && self.last_n >= plan.count && self.is_settled()
    }

    fn is_refusal(end: End) -> bool {
        matches!(end, End::Answered(_))
    }
}
