//! The server id in a QUIC connection id.

/// Bytes of connection id that a server's id needs.
const ID_LENGTH: usize = 8;

/// Whether this long header belongs to a packet behind the server's first, in a version whose types are
/// known.
fn chosen_by_server(payload: &[u8]) -> bool {
    let Some(version) = payload.get(1..5) else { return false };
    let kind = payload[0] >> 4 & 3;
    match version {
        // Handshake and Retry; mvfst's versions number them alike.
        [0, 0, 0, 1] | [0xfa, 0xce, 0xb0, 0x00..=0x1f] => [2, 3].contains(&kind),
        [0x6b, 0x33, 0x43, 0xcf] => [3, 0].contains(&kind),
        _ => false,
    }
}

/// The id that a server wrote into the destination connection id of this UDP payload.
pub(crate) fn server_id(payload: &[u8]) -> Option<u32> {
    let long = payload.first()? & 0x80 != 0;
    let id = if long {
        // Flags, version (4), length of the id, the id.
        let id = payload.get(6..6 + ID_LENGTH)?;
        if !chosen_by_server(payload) || usize::from(payload[5]) < ID_LENGTH {
            return None;
        }
        id
    } else {
        payload.get(1..=ID_LENGTH)?
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    match id[0] >> 6 {
        0 => None,
        // The 16 bits behind the version, of the first three bytes.
        1 => Some(number(&id[..3]) >> 6 & 0xffff),
        2 => Some(number(&id[1..4])),
        _ => Some(number(&id[1..5])),
    }
}
