//! Records to a stream of three copies whose leader dies.

use std::sync::Arc;
use std::time::Duration;

use jetlinks_bridge::protocol::uplink::Inbox;
use jetlinks_bridge::queue::ReadFrom;
use jetlinks_bridge::queue::nats::{NatsReader, NatsSettings, NatsStats, NatsUplink};

use super::sessions::{Sessions, assert_stored_in_order};
use super::support::{Cluster, caller};
use super::worker;

/// The servers take some four seconds to elect another leader, and the bridge has ten more; on a busy machine both take longer.
const RECOVERY: Duration = Duration::from_secs(60);

async fn leader(urls: &[String], stream: &str) -> String {
    let client = caller::client(urls[0].as_str()).await;
    let stream = caller::jetstream(client).get_stream(stream).await.expect("the stream exists");
    let cluster = stream.cached_info().cluster.clone().expect("the stream is clustered");
    cluster.leader.expect("the stream has a leader")
}

#[test]
fn a_leader_that_dies_under_traffic_costs_no_record_and_no_order() {
    let mut cluster = Cluster::start();
    worker::run(async {
        let mut settings = NatsSettings::new(cluster.urls());
        settings.stream_defaults.replicas = 3;
        let inbox = Arc::new(Inbox::new());
        let stats = Arc::new(NatsStats::default());
        let mut uplink =
            NatsUplink::start(&settings, Arc::clone(&inbox), Arc::clone(&stats)).expect("the settings are right");
        let mut sessions = Sessions::new(inbox, 50, 64);
        sessions.send_until_stored(&mut uplink, 100).await;
        let leader = leader(&settings.servers, &settings.stream).await;
        sessions.send(&mut uplink, 160);
        cluster.kill9(&leader);
        let recovered = tokio::time::timeout(RECOVERY, sessions.send_until_stored(&mut uplink, 300)).await;
        recovered.expect("throughput is back in time");
        assert!(sessions.report.epoch >= 2, "what was under way to the leader is lost");
        // Whoever leads JetStream may still be elected.
        let opened = tokio::time::timeout(RECOVERY, async {
            loop {
                if let Ok(reader) = NatsReader::open(&settings, "device.>", ReadFrom::Beginning).await {
                    return reader;
                }
            }
        });
        let mut reader = opened.await.expect("JetStream is back in time");
        let mut payloads = Vec::new();
        while let Some(stored) = reader.next().await.expect("it stays there") {
            payloads.push(stored.payload.to_vec());
        }
        assert_stored_in_order(payloads.into_iter(), 50, 300);
    });
}
