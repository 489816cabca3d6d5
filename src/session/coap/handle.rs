//! From a request whose device was looked up to a record or an answer.

use super::exchange::Answer;
use super::request::{Body, Request};
use super::token_request::{self, Freshness};
use super::{Context, Event, PeerKey, Refusal, Refused, Security, Settings};
use crate::codec::coap::Code;
use crate::protocol::auth::DeviceClock;
use crate::protocol::cipher;
use crate::protocol::envelope::{Reason, Rejection, Source, subject_too_long};
use crate::protocol::id::ProductId;
use crate::protocol::json::scan;
use crate::protocol::message::Message;
use crate::protocol::topic::{MessageKind, MessageType, Route, Upward, parse_up};
use crate::protocol::trace::Span;
use crate::protocol::translate::{Published, Translated, translate};
use crate::protocol::uplink::{Channel, Record};
use crate::session::identity::Identity;
use crate::session::mqtt::Event as MessageEvent;
use crate::session::step::{Action, Carrier, Step};

/// The path on which tokens are given out.
const AUTH: &str = "auth";

/// Its alias behind product and device.
const REQUEST_TOKEN: &str = "request-token";

/// Result of a request.
pub(super) enum Handled {
    /// The answer; no record is written.
    Answer(Answer),
    /// JSON for a request on that path; no record is written.
    Content(String, Vec<u8>),
    /// A record to write, its span, and the answer once it is stored.
    Write(Box<Record>, Option<Box<Span>>, Answer),
}

/// Handler of one request: authenticates the device, then translates the message.
pub(super) struct RequestHandler<'a, 'ctx> {
    pub(super) settings: &'a Settings,
    pub(super) ctx: &'a mut Context<'ctx>,
    pub(super) peer: PeerKey,
    pub(super) device: &'a str,
}

impl RequestHandler<'_, '_> {
    pub(super) fn handle(mut self, request: Request, identity: Option<&Identity>) -> Handled {
        let Request { topic, has_slash_in_segment, body, signature, token, accepts_json, .. } = request;
        let proof = match &self.settings.security {
            Security::Aes => match body {
                Body::Whole(body) => {
                    let hint = not_encrypted(&body);
                    self.decrypt(&topic, body, identity).map_err(|refusal| match refusal {
                        Refusal::Undecryptable => (refusal, hint),
                        _ => (refusal, None),
                    })
                }
                Body::TooLarge => return self.too_large(),
            },
            Security::Dtls { .. } if is_token_request(&topic) => match body {
                Body::Whole(body) => {
                    let hint = not_signed(&signature);
                    self.verify_signature(body, &signature, identity).map_err(|refusal| match refusal {
                        Refusal::Signature => (refusal, hint),
                        _ => (refusal, None),
                    })
                }
                Body::TooLarge => return self.too_large(),
            },
            Security::Dtls { .. } => {
                self.verify_token(body, token.as_deref(), identity).map_err(|refusal| (refusal, None))
            }
        };
        let (product, body) = match proof {
            Ok(proof) => proof,
            Err((refusal, hint)) => {
                let product = identity.map(|identity| identity.product.as_str());
                return self.refuse(Refused { product, hint, ..Refused::new(refusal) });
            }
        };
        let source = Source { product: product.as_str(), device: self.device, session: None, about_product: None };
        if let (Security::Dtls { secrets, token_ttl_secs }, true) = (&self.settings.security, is_token_request(&topic))
        {
            if !is_own_token_request(&topic, &source) {
                return self.foreign(&source, &topic);
            }
            let Body::Whole(body) = body else { return self.too_large() };
            match token_request::freshness(&body, self.ctx.now.unix_ms) {
                Freshness::Fresh => {}
                Freshness::Stale(clock) => return self.refuse(stale(&source, Refusal::Stale, clock)),
                Freshness::Undecodable(error) => {
                    let (payload, detail) = (Some(&body[..]), error.to_string());
                    let rejection = Rejection { topic: &topic, payload, reason: Reason::Undecodable, detail: &detail };
                    return self.reject(&source, MessageKind::Unknown, &rejection);
                }
            }
            if !accepts_json {
                return Handled::Answer(not_acceptable());
            }
            // A key is there: without one nothing is signed.
            let secure_key = secure_key_of(identity);
            let expiry_secs = (self.ctx.now.unix_ms / 1000).saturating_add(*token_ttl_secs);
            let token = secrets.issue(self.device, secure_key, expiry_secs);
            self.ctx.observer.event(self.peer, self.device, Event::TokenIssued);
            return Handled::Content(topic, [b"{\"token\":\"", &token[..], b"\"}"].concat());
        }
        if matches!(self.settings.security, Security::Dtls { .. }) {
            self.ctx.observer.event(self.peer, self.device, Event::TokenAccepted);
        }
        let wrong = has_slash_in_segment.then_some("a segment of the path has a slash in it");
        self.take_in(&source, &topic, wrong, &body, accepts_json)
    }

    /// Checks that a request for a token is signed with the device's key. Computes one signature for every device, known or
    /// not.
    fn verify_signature<'i>(
        &self,
        body: Vec<u8>,
        signature: &[u8],
        identity: Option<&'i Identity>,
    ) -> Result<(&'i ProductId, Body), Refusal> {
        let is_signed = token_request::is_signed(&body, signature, secure_key_of(identity));
        let identity = enabled(identity)?;
        if !is_signed {
            return Err(Refusal::Signature);
        }
        Ok((&identity.product, Body::Whole(body)))
    }

    /// Decrypts the body. Decrypts once for every device, known or not, and checks the plain text.
    fn decrypt<'i>(
        &self,
        topic: &str,
        mut body: Vec<u8>,
        identity: Option<&'i Identity>,
    ) -> Result<(&'i ProductId, Body), Refusal> {
        let key = identity.and_then(|identity| cipher::key(&identity.secure_key));
        let decrypted = cipher::decrypt(key.unwrap_or(self.settings.key.decoy()), &mut body);
        // Noise ends here, before anything is looked up for it; [`RequestHandler::take_in`] looks at the whole body.
        let may_prove = decrypted.is_ok() && (may_be_proof(&body) || (self.settings.takes_direct && is_direct(topic)));
        let identity = enabled(identity)?;
        key.ok_or(Refusal::KeyLength)?;
        decrypted.map_err(|cipher::Undecryptable| Refusal::Undecryptable)?;
        if may_prove { Ok((&identity.product, Body::Whole(body))) } else { Err(Refusal::Unproven) }
    }

    /// Checks that the token is the device's. Computes the same for every device, known or not.
    fn verify_token<'i>(
        &self,
        body: Body,
        token: Option<&[u8]>,
        identity: Option<&'i Identity>,
    ) -> Result<(&'i ProductId, Body), Refusal> {
        let Security::Dtls { secrets, .. } = &self.settings.security else { return Err(Refusal::TokenMissing) };
        let token = token.ok_or(Refusal::TokenMissing)?;
        let secure_key = secure_key_of(identity);
        let verified = secrets.verify(token, self.device, secure_key, self.ctx.now.unix_ms / 1000);
        let identity = enabled(identity)?;
        verified.map_err(Refusal::Token)?;
        Ok((&identity.product, body))
    }

    /// Translates an authentic message; a path with something `wrong` is not a topic, whatever it looks like.
    fn take_in(
        &mut self,
        source: &Source<'_>,
        topic: &str,
        wrong: Option<&str>,
        body: &Body,
        accepts_json: bool,
    ) -> Handled {
        let payload = match body {
            Body::Whole(body) if body.len() <= self.ctx.limits.packet_bytes => Some(&body[..]),
            Body::Whole(_) | Body::TooLarge => None,
        };
        let published = Published {
            product: source.product,
            device: source.device,
            topic,
            payload,
            packet_bytes_max: self.ctx.limits.packet_bytes,
            now_ms: self.ctx.now.unix_ms,
        };
        let translated = translate(published, self.ctx.children);
        // A message was read from a JSON object or from nothing, which is the proof; elsewhere it is looked for.
        let is_read =
            matches!(&translated, Translated::Message { route, .. } if route.message_type != MessageType::Direct);
        if !is_read && !self.is_proven(topic, body) {
            let product = Some(source.product);
            return self.refuse(Refused { product, ..Refused::new(Refusal::Unproven) });
        }
        if self.ctx.is_followed {
            let about = match &translated {
                Translated::Message { route, .. } => route.about(),
                _ => source.device,
            };
            self.follow(source, about, Action::Publish { topic, by: Carrier::Coap, payload });
        }
        if let Some(detail) = wrong.filter(|_| !matches!(translated, Translated::Foreign)) {
            let rejection = Rejection { topic, payload, reason: Reason::UnknownTopic, detail };
            return self.reject(source, MessageKind::Unknown, &rejection);
        }
        match translated {
            Translated::Message { route, message, about_product } => {
                let source = Source { about_product: about_product.as_ref().map(ProductId::as_str), ..*source };
                self.message(&source, &route, &message)
            }
            Translated::TimeSync(_) if !accepts_json => Handled::Answer(not_acceptable()),
            Translated::TimeSync(answer) => {
                self.tell(MessageEvent::Received(MessageKind::TimeSync));
                self.follow(source, source.device, Action::TimeSync);
                Handled::Content(topic.to_owned(), answer)
            }
            Translated::Rejected(rejected) => self.reject(source, rejected.kind, &rejected.rejection()),
            Translated::Foreign => self.foreign(source, topic),
        }
    }

    /// Whether the body proves that it is the device's, where nothing else has proved it.
    fn is_proven(&self, topic: &str, body: &Body) -> bool {
        match (&self.settings.security, body) {
            (Security::Aes, Body::Whole(body)) => is_proof(body) || (self.settings.takes_direct && is_direct(topic)),
            (Security::Aes, Body::TooLarge) => false,
            (Security::Dtls { .. }, _) => true,
        }
    }

    fn message(&mut self, source: &Source<'_>, route: &Route<'_>, message: &Message<'_>) -> Handled {
        let now_ms = self.ctx.now.unix_ms;
        let kind = MessageKind::Type(route.message_type);
        let oldest_ms = self.settings.max_age_ms.map(|max_age_ms| now_ms.saturating_sub(max_age_ms));
        if oldest_ms.and_then(|ms| i64::try_from(ms).ok()).is_some_and(|oldest_ms| message.timestamp() < oldest_ms) {
            let clock = DeviceClock::of(message.timestamp(), now_ms);
            let refused = stale(source, Refusal::TooOld, Some(clock));
            // A body may be old by a clock that is right.
            return self.refuse(Refused { hint: refused.hint.filter(|_| clock.off.is_none()), ..refused });
        }
        let trace = self.ctx.encoder.tracer.begin(None);
        let record = self.ctx.encoder.device(source, route, message, trace);
        let span = self.ctx.encoder.span(&record, source, route.about(), route.message_type.dotted(), None);
        self.follow(source, route.about(), Action::Envelope(&record));
        if record.channel == Channel::Rejected {
            let detail = &subject_too_long();
            self.tell(MessageEvent::Rejected { kind, reason: Reason::TooLarge, topic: route.topic, detail });
            return Handled::Write(Box::new(record), span, self.answer_too_large());
        }
        self.tell(MessageEvent::Received(kind));
        Handled::Write(Box::new(record), span, Answer::new(Code::CREATED))
    }

    fn reject(&mut self, source: &Source<'_>, kind: MessageKind, rejection: &Rejection<'_>) -> Handled {
        let Rejection { reason, topic, detail, .. } = *rejection;
        self.tell(MessageEvent::Rejected { kind, reason, topic, detail });
        let trace = self.ctx.encoder.tracer.begin(None);
        let record = self.ctx.encoder.rejected(source, rejection, trace);
        let span = self.ctx.encoder.span(&record, source, source.device, "rejected", None);
        self.follow(source, source.device, Action::Envelope(&record));
        let answer = match rejection.reason {
            Reason::UnknownTopic => Answer::because(Code::NOT_FOUND, detail.to_owned()),
            Reason::ForeignChild => Answer::because(Code::FORBIDDEN, detail.to_owned()),
            Reason::TooLarge => self.answer_too_large(),
            Reason::Undecodable | Reason::Refused => Answer::because(Code::BAD_REQUEST, detail.to_owned()),
        };
        Handled::Write(Box::new(record), span, answer)
    }

    fn refuse(&mut self, refused: Refused<'_>) -> Handled {
        self.ctx.observer.event(self.peer, self.device, Event::Refused(refused));
        let source = Source {
            product: refused.product.unwrap_or_default(),
            device: self.device,
            session: None,
            about_product: None,
        };
        self.follow(&source, self.device, Action::RefuseRequest(refused));
        Handled::Answer(unauthorized())
    }

    fn foreign(&mut self, source: &Source<'_>, topic: &str) -> Handled {
        self.tell(MessageEvent::Foreign { topic });
        self.follow(source, source.device, Action::Foreign { topic });
        Handled::Answer(Answer::because(Code::FORBIDDEN, "the path is not that of the device in option 2100"))
    }

    fn too_large(&self) -> Handled {
        Handled::Answer(self.answer_too_large())
    }

    fn answer_too_large(&self) -> Answer {
        too_large(self.ctx.limits.packet_bytes)
    }

    /// Tells those who follow a device of a step, if somebody does.
    fn follow(&mut self, source: &Source<'_>, about: &str, action: Action<'_>) {
        if self.ctx.is_followed {
            let step = Step { product: source.product, device: source.device, about, action };
            self.ctx.observer.step(self.peer, &step);
        }
    }

    fn tell(&mut self, event: MessageEvent<'_>) {
        self.ctx.observer.event(self.peer, self.device, Event::Message(event));
    }
}

/// 4.13 with the most that is taken.
pub(super) fn too_large(packet_bytes: usize) -> Answer {
    let size_max = Some(u32::try_from(packet_bytes).unwrap_or(u32::MAX));
    let diagnostic = format!("a message has at most {packet_bytes} bytes");
    Answer { size_max, ..Answer::because(Code::REQUEST_ENTITY_TOO_LARGE, diagnostic) }
}

/// 4.01, with the same text whatever was wrong: it must not tell which devices there are.
pub(super) fn unauthorized() -> Answer {
    Answer::because(Code::UNAUTHORIZED, "not authenticated")
}

fn not_acceptable() -> Answer {
    Answer::because(Code::NOT_ACCEPTABLE, "the answer is JSON")
}

/// The device's key; empty where there is no such device.
fn secure_key_of(identity: Option<&Identity>) -> &str {
    identity.map_or("", |identity| &identity.secure_key)
}

fn enabled(identity: Option<&Identity>) -> Result<&Identity, Refusal> {
    let identity = identity.ok_or(Refusal::Unknown)?;
    if identity.enabled { Ok(identity) } else { Err(Refusal::Disabled) }
}

/// Refusal for a timestamp, with the clock that it shows.
fn stale<'a>(source: &Source<'a>, refusal: Refusal, clock: Option<DeviceClock>) -> Refused<'a> {
    let (hint, clock_off) = (clock.map(|clock| clock.hint), clock.and_then(|clock| clock.off));
    Refused { refusal, product: Some(source.product), hint, clock_off }
}

/// Description of a body that is not encrypted, by its length and its beginning alone: so it costs each device the same.
fn not_encrypted(body: &[u8]) -> Option<&'static str> {
    match body {
        [] => Some("the body is empty: an encrypted one has at least 16 bytes"),
        [b'{', ..] => {
            Some("the body is JSON as it is: it must be encrypted with AES-128 in ECB mode, or be sent over DTLS")
        }
        _ if body
            .iter()
            .take(cipher::BLOCK_BYTES)
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)) =>
        {
            Some("the body is text, such as hex or base64: the encrypted bytes must be sent as they are")
        }
        _ if !body.len().is_multiple_of(cipher::BLOCK_BYTES) => {
            Some("the length of the body is no multiple of 16, as that of an encrypted one is")
        }
        _ => None,
    }
}

/// Description of a signature that is no MD5 in hex, by its form alone.
fn not_signed(signature: &[u8]) -> Option<&'static str> {
    match signature {
        [] => Some("option 2110 is missing: it is the MD5 of payload and secureKey together"),
        [..] if signature.len() == 16 => Some("option 2110 has 16 bytes: the MD5 must be written as 32 hex digits"),
        [..] if signature.len() == 32 && signature.iter().all(u8::is_ascii_hexdigit) => None,
        [..] => Some("option 2110 is not the 32 hex digits of an MD5"),
    }
}

/// Whether a body proves by what it is that it was encrypted with the key that decrypts it. The padding does not: of 256
/// bodies of noise one has a right one. A JSON object does, and so does the padding of an empty body, which is a block
/// of its own; neither comes out of noise once in 2^64 times.
fn is_proof(body: &[u8]) -> bool {
    body.is_empty() || scan(body, |_| {}).is_ok()
}

/// Whether [`is_proof`] may be true, by the beginning of the body alone: a byte order mark is tolerated in front of JSON.
fn may_be_proof(body: &[u8]) -> bool {
    let text = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    body.is_empty() || text.trim_ascii_start().first() == Some(&b'{')
}

/// Whether a path is that of a message of the type `direct`, of whatever device.
pub(super) fn is_direct(topic: &str) -> bool {
    if !topic.contains("direct") {
        return false;
    }
    let mut segments = bare(topic).split('/');
    let (Some(product), Some(device)) = (segments.next(), segments.next()) else { return false };
    let upward = parse_up(topic, product, device);
    matches!(upward, Ok(Upward::Message(route)) if route.message_type == MessageType::Direct)
}

/// The topic without the slashes at its ends that a topic may have.
fn bare(topic: &str) -> &str {
    let path = topic.strip_prefix('/').unwrap_or(topic);
    path.strip_suffix('/').unwrap_or(path)
}

fn is_token_request(topic: &str) -> bool {
    let path = bare(topic);
    let mut segments = path.split('/').skip(2);
    path == AUTH || (segments.next() == Some(REQUEST_TOKEN) && segments.next().is_none())
}

fn is_own_token_request(topic: &str, source: &Source<'_>) -> bool {
    let mut segments = bare(topic).split('/');
    bare(topic) == AUTH || (segments.next() == Some(source.product) && segments.next() == Some(source.device))
}
