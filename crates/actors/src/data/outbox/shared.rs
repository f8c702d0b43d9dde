//! The shared stream: all that is ready goes out as one numbered report per job.

use std::sync::Arc;

use sortie_link::FrameSender;
use sortie_link::Link;
use sortie_wire::host_proto::{Report, ReportStream};

use crate::data::outbox::{Outbox, Pending, Sent, State};

/// Writes reports until the connection or the session ends.
pub(super) async fn send(outbox: Arc<Outbox>, link: Link, generation: u64) {
    let session = outbox.session;
    let Ok(mut stream) = link.open_uni(PRIORITY).await else { return };
    if stream.send(&ReportStream { session, child: None }).await.is_err() {
        return;
    }
    let again: Vec<Sent> = outbox.state().unacknowledged.iter().cloned().collect();
    for report in again {
        if write(&mut stream, report).await.is_err() {
            return;
        }
    }
    loop {
        let fresh = {
            let mut state = outbox.state();
            if state.generation != generation {
                // The wake-up may have been meant for the sender that came after.
                outbox.wake.notify_one();
                return;
            }
            take_pending(&mut state)
        };
        if fresh.is_empty() {
            tokio::select! {
                () = outbox.wake.notified() => {}
                _ = link.closed() => return,
            }
        }
        for report in fresh {
            if write(&mut stream, report).await.is_err() {
                return;
            }
        }
    }
}

/// Above the children's own streams, below control.
const PRIORITY: i32 = 10;

async fn write(stream: &mut FrameSender, report: Sent) -> Result<(), ()> {
    stream.send_with_payload(report.head.as_ref(), report.payload).await.map_err(|_| ())
}

fn take_pending(state: &mut State) -> Vec<Sent> {
    let pending = std::mem::take(&mut state.pending);
    let mut fresh = Vec::new();
    for (job, Pending { started, runs, payload, payload_bytes, ended }) in pending {
        state.last_number += 1;
        let number = state.last_number;
        let head = Arc::new(Report { number, job, started, records: runs, ended });
        fresh.push(Sent { number, head, payload, bytes: payload_bytes });
    }
    state.unacknowledged.extend(fresh.iter().cloned());
    fresh
}
