//! A bounded memory of what devices did recently.

use crate::protocol::id::DeviceId;
use crate::protocol::keyed::KeyedMap;

/// Devices that are remembered at once. While there are so many, nothing is noted of further ones: a replica that loses
/// its 100,000 devices to others would otherwise be remembered device by device.
pub const DEVICES_MAX: usize = 16_384;

/// Pause between two searches for what can be forgotten, us.
const SWEEP_US: u64 = 1_000_000;

/// A memory of a device, which can be forgotten after a while.
pub trait Expiring: Default {
    /// Whether it means nothing any more.
    fn is_expired(&self, now_us: u64) -> bool;
}

/// Memories by device: at most [`DEVICES_MAX`] of them.
#[derive(Debug, Default)]
pub struct Recent<T> {
    devices: KeyedMap<DeviceId, T>,
    sweep_us: u64,
}

impl<T: Expiring> Recent<T> {
    /// The memory of a device.
    pub fn get(&self, device: &str) -> Option<&T> {
        self.devices.get(device)
    }

    /// As [`Recent::get`], to change it.
    pub fn get_mut(&mut self, device: &str) -> Option<&mut T> {
        self.devices.get_mut(device)
    }

    /// As [`Recent::get_mut`]; a device of which nothing is remembered begins anew. `None` when there are too many.
    pub fn entry(&mut self, device: &DeviceId, now_us: u64) -> Option<&mut T> {
        if self.devices.len() >= DEVICES_MAX && !self.devices.contains_key(device) {
            // Each look is a walk over all of them.
            if now_us < self.sweep_us {
                return None;
            }
            self.sweep_us = now_us + SWEEP_US;
            self.devices.retain(|_, remembered| !remembered.is_expired(now_us));
            if self.devices.len() >= DEVICES_MAX {
                return None;
            }
        }
        Some(self.devices.entry(device.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Until(u64);

    impl Expiring for Until {
        fn is_expired(&self, now_us: u64) -> bool {
            now_us >= self.0
        }
    }

    fn device(number: usize) -> DeviceId {
        DeviceId::new(&format!("device{number}")).expect("a valid id")
    }

    #[test]
    fn devices_are_forgotten_when_there_are_many_and_their_time_is_over() {
        let mut recent = Recent::<Until>::default();
        for number in 0..DEVICES_MAX {
            recent.entry(&device(number), 0).expect("there is room").0 = 10 + number as u64;
        }
        assert!(recent.entry(&device(DEVICES_MAX), 9).is_none(), "all of them still mean something");
        assert!(recent.entry(&device(0), 9).is_some(), "those that are known do not need room");
        assert!(recent.entry(&device(DEVICES_MAX), 10).is_none(), "it was looked a moment ago");
        assert!(recent.entry(&device(DEVICES_MAX), 9 + SWEEP_US).is_some());
        assert_eq!(recent.devices.len(), 1);
    }
}
