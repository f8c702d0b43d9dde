//! What may be in flight to a peer that acknowledges nothing.
//!
//! QUIC probes a silent path after waits that double (RFC 9002, section 6.2), and sends nothing
//! else once the congestion window is full. It is full soon where it is small, as for ever after a
//! persistent congestion of a connection that seldom has much to say. What is heard of us then
//! comes late by up to twice as long as the path was cut, and a cut that is within a lease would
//! end it. So the window of a silent path grows, slowly: heartbeats go out, and the first one that
//! arrives makes both sides notice what was lost. Linux has the same for thin streams of TCP.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;
use sortie_model::limits;

/// Makes the controllers of connections: see the module.
pub(super) struct Probing;

impl ControllerFactory for Probing {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::new(CubicConfig::default()).build(now, current_mtu);
        let datagram = u64::from(current_mtu);
        Box::new(ProbingController { cubic, datagram, silent_since: None, in_flight: 0 })
    }
}

/// Cubic, and what a silent path gets beyond it.
struct ProbingController {
    cubic: Box<dyn Controller>,
    /// Bytes of a datagram.
    datagram: u64,
    /// When something was first sent after the last acknowledgement. Also an acknowledgement of
    /// ours, which nobody acknowledges: who only hears may say a little more at once behind it.
    silent_since: Option<Instant>,
    /// What was on its way at the last acknowledgement: a loss that came with it has made the
    /// window smaller than that.
    in_flight: u64,
}

impl ProbingController {
    fn window_at(&self, now: impl FnOnce() -> Instant) -> u64 {
        let silence = self.silent_since.map(|since| now().saturating_duration_since(since));
        let silence = silence.unwrap_or_default();
        // So long without an answer, what was on its way is lost, and fills no path.
        let lost = if silence >= limits::HEARTBEAT { self.in_flight } else { 0 };
        self.cubic.window().max(lost).saturating_add(probes(silence) * self.datagram)
    }
}

/// Datagrams that may be in flight beyond the window after such a silence.
fn probes(silence: Duration) -> u64 {
    let spaces = silence.as_millis() / limits::SILENT_PATH_PROBE.as_millis();
    u64::try_from(spaces).unwrap_or(u64::MAX).min(limits::SILENT_PATH_PROBES)
}

impl Controller for ProbingController {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.silent_since.get_or_insert(now);
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.silent_since = (in_flight > 0).then_some(now);
        self.in_flight = in_flight;
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.datagram = u64::from(new_mtu);
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.window_at(Instant::now)
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        // For another path, on which nothing was sent yet.
        let (cubic, datagram) = (self.cubic.clone_box(), self.datagram);
        Box::new(Self { cubic, datagram, silent_since: None, in_flight: 0 })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: u16 = 1_200;

    fn collapsed(now: Instant) -> Box<ProbingController> {
        let mut controller = Arc::new(Probing).build(now, DATAGRAM);
        controller.on_congestion_event(now, now, true, 1);
        controller.into_any().downcast().expect("one of ours")
    }

    #[test]
    fn a_silent_path_takes_a_heartbeat_each_time_after_its_window_has_collapsed() {
        let begin = Instant::now();
        let mut controller = collapsed(begin);
        let least = controller.window_at(|| begin);
        assert_eq!(least, 2 * u64::from(DATAGRAM), "what Cubic leaves");
        // What quinn asks before it sends one more: whether two datagrams more would fit.
        let fits = |controller: &ProbingController, in_flight: u64, now| {
            in_flight + 2 * u64::from(DATAGRAM) < controller.window_at(|| now)
        };
        let mut in_flight = 0;
        let beats = limits::LEASE.as_millis() / limits::HEARTBEAT.as_millis();
        for beat in 1..=u32::try_from(beats).expect("a few") {
            controller.on_sent(begin, 1, u64::from(beat));
            // Each with what quinn sends of its own accord, as fast as its waits double.
            in_flight += u64::from(DATAGRAM) * 2;
            let now = begin + limits::HEARTBEAT * beat;
            assert!(fits(&controller, in_flight, now), "beat {beat}");
        }
        let long = begin + limits::LINK_IDLE * 100;
        let most = limits::SILENT_PATH_PROBES * u64::from(DATAGRAM);
        assert_eq!(controller.window_at(|| long), least + most, "and no more than this");
    }

    #[test]
    fn a_path_that_is_cut_right_behind_a_loss_takes_heartbeats_all_the_same() {
        let begin = Instant::now();
        let mut controller = collapsed(begin);
        let in_flight = 1_000 * u64::from(DATAGRAM);
        controller.on_end_acks(begin, in_flight, false, None);
        let window = |after| controller.window_at(|| begin + after);
        assert!(window(limits::SILENT_PATH_PROBE) < in_flight, "a path may be slow");
        assert!(window(limits::HEARTBEAT) > in_flight + 2 * u64::from(DATAGRAM));
        assert!(window(limits::LEASE) <= in_flight + 64 * u64::from(DATAGRAM));
    }

    #[test]
    fn an_acknowledgement_ends_the_silence() {
        let begin = Instant::now();
        let mut controller = collapsed(begin);
        let least = controller.window_at(|| begin);
        let later = begin + limits::HEARTBEAT;
        assert_eq!(controller.window_at(|| later), least, "nothing is in flight");
        controller.on_sent(begin, 1, 1);
        controller.on_sent(later, 1, 2);
        assert!(controller.window_at(|| later) > least, "since the first one");
        assert_eq!(controller.clone_box().window(), least, "not on a new path");
        controller.on_end_acks(later, 1, true, Some(1));
        assert_eq!(controller.window_at(|| later), least, "counted anew");
        assert!(controller.window_at(|| later + limits::HEARTBEAT) > least);
        controller.on_end_acks(later, 0, true, Some(2));
        assert_eq!(controller.window_at(|| later + limits::LINK_IDLE), least);
    }
}
