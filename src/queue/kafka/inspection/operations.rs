//! Operations that the user may do with a topic or a group, as the brokers tell it (KIP-430).
#![expect(unsafe_code, reason = "the crate does not ask for the operations that are authorized")]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::slice;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as librdkafka;
use rdkafka::client::Client;

use librdkafka::rd_kafka_admin_op_t::{RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS};

/// Operations that the user may do, by librdkafka's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operations(Vec<i32>);

impl Operations {
    /// Reading of a topic, and being a member of a group.
    pub(super) const READ: i32 = librdkafka::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ as i32;
    /// Writing to a topic.
    pub(super) const WRITE: i32 = librdkafka::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE as i32;

    /// Whether that one is among them.
    pub(super) fn allow(&self, operation: i32) -> bool {
        self.0.contains(&operation)
    }

    /// The name of an operation, as tools for permissions want it.
    pub(super) fn name(operation: i32) -> &'static str {
        if operation == Self::WRITE { "WRITE" } else { "READ" }
    }
}

/// The subject of a question.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question<'a> {
    Topic(&'a str),
    Group(&'a str),
}

impl Question<'_> {
    /// Asks the brokers. `None`: they do not tell.
    ///
    /// # Errors
    /// The client's words, or the brokers'.
    pub(super) fn ask<C: ClientContext>(
        self,
        client: &Client<C>,
        timeout: Duration,
    ) -> Result<Option<Operations>, String> {
        let (Question::Topic(name) | Question::Group(name)) = self;
        let name = CString::new(name).map_err(|_| "its name holds a zero byte".to_owned())?;
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `client` lives until the end of the call, and so do `name` and the array of one pointer to it. Whatever is
        // made here (checked for null) is destroyed once, after its last use.
        unsafe {
            let client = client.native_ptr();
            let operation = match self {
                Question::Topic(_) => RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                Question::Group(_) => RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
            };
            let options = librdkafka::rd_kafka_AdminOptions_new(client, operation);
            let queue = librdkafka::rd_kafka_queue_new(client);
            if options.is_null() || queue.is_null() {
                return Err("no memory".to_owned());
            }
            let refused = librdkafka::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !refused.is_null() {
                librdkafka::rd_kafka_error_destroy(refused);
            }
            librdkafka::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
            let mut names = [name.as_ptr()];
            match self {
                Question::Topic(_) => {
                    let topics = librdkafka::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                    librdkafka::rd_kafka_DescribeTopics(client, topics, options, queue);
                    librdkafka::rd_kafka_TopicCollection_destroy(topics);
                }
                Question::Group(_) => {
                    let count = names.len();
                    librdkafka::rd_kafka_DescribeConsumerGroups(client, names.as_mut_ptr(), count, options, queue);
                }
            }
            // The request ends by itself; a little later than it may, the client is at fault.
            let event = librdkafka::rd_kafka_queue_poll(queue, timeout_ms.saturating_add(1_000));
            let answer = if event.is_null() { Err("no answer in time".to_owned()) } else { self.read(event) };
            if !event.is_null() {
                librdkafka::rd_kafka_event_destroy(event);
            }
            librdkafka::rd_kafka_queue_destroy(queue);
            librdkafka::rd_kafka_AdminOptions_destroy(options);
            answer
        }
    }

    /// # Safety
    /// The event is a live one that nobody else uses.
    unsafe fn read(self, event: *mut librdkafka::rd_kafka_event_t) -> Result<Option<Operations>, String> {
        let mut count = 0;
        // SAFETY: the caller's promise. What the accessors give belongs to the event and is copied; each pointer is checked.
        unsafe {
            let text = |text: *const c_char| match text.is_null() {
                true => "no reason given".to_owned(),
                false => CStr::from_ptr(text).to_string_lossy().into_owned(),
            };
            if librdkafka::rd_kafka_event_error(event) != librdkafka::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(text(librdkafka::rd_kafka_event_error_string(event)));
            }
            let (error, operations) = match self {
                Question::Topic(_) => {
                    let result = librdkafka::rd_kafka_event_DescribeTopics_result(event);
                    if result.is_null() {
                        return Ok(None);
                    }
                    let topics = librdkafka::rd_kafka_DescribeTopics_result_topics(result, &mut count);
                    if topics.is_null() || count == 0 {
                        return Ok(None);
                    }
                    let topic = *topics;
                    let error = librdkafka::rd_kafka_TopicDescription_error(topic);
                    (error, librdkafka::rd_kafka_TopicDescription_authorized_operations(topic, &mut count))
                }
                Question::Group(_) => {
                    let result = librdkafka::rd_kafka_event_DescribeConsumerGroups_result(event);
                    if result.is_null() {
                        return Ok(None);
                    }
                    let groups = librdkafka::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
                    if groups.is_null() || count == 0 {
                        return Ok(None);
                    }
                    let group = *groups;
                    let error = librdkafka::rd_kafka_ConsumerGroupDescription_error(group);
                    (error, librdkafka::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &mut count))
                }
            };
            if !error.is_null()
                && librdkafka::rd_kafka_error_code(error) != librdkafka::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return Err(text(librdkafka::rd_kafka_error_string(error)));
            }
            if operations.is_null() {
                return Ok(None);
            }
            // As numbers: a broker may know operations that these bindings do not.
            Ok(Some(Operations(slice::from_raw_parts(operations.cast::<i32>(), count).to_vec())))
        }
    }
}
