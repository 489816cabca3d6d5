//! Shared by the test binaries: real servers, the real bridge, devices, waiting for conditions.
//!
//! A binary takes it in with `#[path = "../support/mod.rs"] mod support;`. Nothing here is a stand-in: a tool that is
//! missing fails the test and says so.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of the shared module")]
#![expect(clippy::disallowed_methods, reason = "tests own the clock, the sockets and the processes that they start")]

pub(crate) mod authority;
pub(crate) mod balancer;
pub(crate) mod bridge;
pub(crate) mod bystander;
pub(crate) mod caller;
pub(crate) mod certificate;
pub(crate) mod cluster;
pub(crate) mod coap;
pub(crate) mod collector;
pub(crate) mod device;
pub(crate) mod document;
pub(crate) mod folder;
pub(crate) mod follow;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod leaf;
pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod mqtt_rows;
pub(crate) mod nats;
pub(crate) mod operator;
pub(crate) mod packet;
pub(crate) mod pipe;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod registry;
pub(crate) mod service;
pub(crate) mod settings;
pub(crate) mod stopwatch;
pub(crate) mod stored;
pub(crate) mod terminal;
pub(crate) mod tool;
pub(crate) mod wait;
pub(crate) mod wire;

pub(crate) use authority::Authority;
pub(crate) use balancer::Balancer;
pub(crate) use bridge::Bridge;
pub(crate) use bystander::Bystander;
pub(crate) use caller::Caller;
pub(crate) use certificate::Certificate;
pub(crate) use cluster::Cluster;
pub(crate) use coap::CoapDevice;
pub(crate) use collector::{Collector, Exported};
pub(crate) use device::Device;
pub(crate) use folder::Folder;
pub(crate) use kafka::{Kafka, KafkaPair, KafkaThree, LinkedKafka, SecuredKafka, Spoilt};
pub(crate) use leaf::Leaf;
pub(crate) use link::Link;
pub(crate) use load::Load;
pub(crate) use nats::Nats;
pub(crate) use operator::Operator;
pub(crate) use packet::{Connect, Packet, Version};
pub(crate) use pipe::Pipe;
pub(crate) use process::Process;
pub(crate) use registry::{Registration, Registry};
pub(crate) use settings::Settings;
pub(crate) use stopwatch::Stopwatch;
pub(crate) use wait::eventually;
pub(crate) use wire::Wire;
