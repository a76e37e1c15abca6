//! Adversaries of serving: requests whose answers are not read, requests that are not completed.

use preconfirmation_types::{B256, GetRawTxListRequest, frame};

use crate::{
    cases::{Case, Expected, FLOOD},
    frames,
    peer::{Plan, Script},
    rig::LARGE_LIST,
};

/// What a peer like us has in work for one asker, twice.
const UNREAD: usize = 32;

/// All streams that a connection has for one protocol, but for some.
const HALF: usize = 200;

pub(crate) static ALL: [Case; 3] = [
    Case::new("NonReader", Expected::Untouched, |_, _| {
        let request = frame::write(&GetRawTxListRequest { raw_tx_list_hash: LARGE_LIST });
        Ok(asks(request, UNREAD))
    })
    .by(4),
    Case::new("MalformedRequests", Expected::Charged, |_, _| {
        let requests = Some((Script::new(vec![frames::frame(&[7; 32])], 0), HALF));
        Ok(Plan {
            requests,
            requests_per_second: Some(FLOOD),
            asks_for: Some("get_commitments_by_number"),
            ..Plan::default()
        })
    }),
    Case::new("HalfFrames", Expected::Untouched, |_, _| {
        let mut request = frame::write(&GetRawTxListRequest { raw_tx_list_hash: B256::ZERO });
        request.truncate(7);
        Ok(Plan { holds: true, ..asks(request, HALF) })
    }),
];

/// Opens so many streams for lists, writes this to each, and reads from none.
fn asks(request: Vec<u8>, streams: usize) -> Plan {
    let requests = Some((Script::new(vec![request], 0), streams));
    Plan { requests, asks_for: Some("get_raw_txlist"), unread: true, ..Plan::default() }
}
