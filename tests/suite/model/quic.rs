//! The server id in a QUIC connection id.

/// Bytes of connection id that a server's id needs.
const ID_LENGTH: usize = 8;

/// The id that a server wrote into the destination connection id of this UDP payload.
pub(crate) fn server_id(payload: &[u8]) -> Option<u32> {
    let long = payload.first()? & 0x80 != 0;
    let id = if long {
        // Flags, version (4), length of the id, the id.
        let id = payload.get(6..6 + ID_LENGTH)?;
        // Types 0 and 1 are Initial and 0-RTT: the client made the id up.
        let of_client = payload[0] >> 4 & 3 < 2;
        if of_client || usize::from(payload[5]) < ID_LENGTH {
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
