//! What threads beside the workers count.

use super::family::{Family, Metric};
use super::histogram::Histogram;
use super::label::{CertificateUse, Label, RegistryAnswer, ReloadResult, label};
use super::render::Page;
use super::scalar::{Counter, CounterBy, Gauge, GaugeBy, TimeBy};
use super::worker::metrics;

label! {
    /// What the registry said of a device.
    "result" LookupResult {
        /// It knows the device.
        Found = "found",
        /// It does not.
        Unknown = "unknown",
        /// It does not answer.
        Away = "away",
    }
}

label! {
    /// Whether a look-up could be answered without asking.
    "result" CacheResult {
        /// It could.
        Hit = "hit",
        /// The service was asked.
        Miss = "miss",
    }
}

label! {
    /// What the cache remembers.
    "kind" CachedRecord {
        /// The record of a device.
        Device = "device",
        /// That there is no such device.
        Unknown = "unknown",
    }
}

label! {
    /// What became of another replica's claim on a device that this one holds, too.
    "verdict" ClaimVerdict {
        /// It is older, and was told so.
        Insist = "insist",
        /// It is newer, and was asked whether it lives.
        Ask = "ask",
        /// It lives: the own session gave way.
        Yield = "yield",
    }
}

label! {
    /// Why something on the subject of claims does not count.
    "reason" ClaimFault {
        /// It is no claim.
        Malformed = "malformed",
        /// It is not signed, and must be.
        Unsigned = "unsigned",
        /// No secret that is known signed it.
        WrongSignature = "wrong_signature",
    }
}

metrics! {
    /// The numbers of the coordination between replicas; its thread alone writes them.
    CoordinationMetrics {
        claims: CounterBy<ClaimVerdict> = "coordination_claims_total",
            "Claims of other replicas on devices that are connected here, by what became of them.";
        ignored: CounterBy<ClaimFault> = "coordination_claims_ignored_total",
            "Messages on the subject of claims that do not count, by reason.";
        outages: Counter = "coordination_outages_total",
            "Times that the coordination lost NATS.";
    }
}

metrics! {
    /// The numbers of the registry; the thread that watches it alone writes them.
    RegistryMetrics {
        reloads: CounterBy<ReloadResult> = "registry_reloads_total",
            "Changes of the registry that were read, by result.";
        devices: Gauge = "registry_devices",
            "Devices of the registry that are known here.";
        stale: Gauge = "registry_stale",
            "1 while an older version of the registry is in force: its file has mistakes or is gone, or it is lost.";
        requests: CounterBy<RegistryAnswer> = "registry_requests_total",
            "Requests to the registry behind HTTP, by outcome.";
        request: Histogram = "registry_request_duration_seconds",
            "Time of a request to the registry behind HTTP.";
    }
}

metrics! {
    /// The numbers of certificates; the task that follows their files alone writes them.
    CertificateMetrics {
        expiry: TimeBy<CertificateUse> = "certificate_expiry_timestamp_seconds",
            "When the certificate in force expires, in seconds since 1970; those that are not used have no series.";
        reloads: CounterBy<ReloadResult> = "certificate_reloads_total",
            "Changes of the files of certificates that were read, by result.";
        stale: GaugeBy<CertificateUse> = "certificate_stale",
            "1 while an older certificate is in force, as the files hold none that can be used.";
    }
}

impl RegistryMetrics {
    /// Counts a change that is in force; so many devices are known.
    pub fn replaced(&self, devices: usize) {
        self.reloads.inc(ReloadResult::Replaced);
        self.devices.set(devices as u64);
    }

    /// Counts a change that cannot be read.
    pub fn refused(&self) {
        self.reloads.inc(ReloadResult::Refused);
    }
}
