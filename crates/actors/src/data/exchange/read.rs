//! Messages to a client as they come from another process.

use sortie_wire::DecodeError;
use sortie_wire::frame::{self, Message};
use sortie_wire::session_proto::{Answer, Delivery, Happening};

use crate::data::exchange::{ExchangeError, Incoming, ToClient};

/// The next message; none once the serving end has finished.
pub(super) async fn read(stream: &mut Incoming) -> Result<Option<ToClient>, ExchangeError> {
    let Some(frame) = stream.next().await? else { return Ok(None) };
    let message = match frame.kind {
        Answer::KIND => ToClient::Answer(frame.open()?),
        Happening::KIND => ToClient::Happening(frame.open()?),
        _ => read_delivery(frame)?,
    };
    Ok(Some(message))
}

fn read_delivery(frame: frame::Frame) -> Result<ToClient, DecodeError> {
    let kind = frame.kind;
    match frame::open_head(frame)? {
        (Delivery::Records { number, source, runs }, mut payload) => {
            let mut records = Vec::new();
            for run in runs {
                records.extend(run.unpack(&mut payload, kind)?);
            }
            Ok(ToClient::Records { number, source, records })
        }
        (delivery, _) => Ok(ToClient::Delivery(delivery)),
    }
}
