//! Framing of records, and their checksum.

const LENGTH: usize = 8;
const CHECKSUM: usize = 4;

/// The data of the next record; nothing where its end is missing. Or which of its checksums is wrong.
pub(crate) fn next_record<'b>(rest: &mut &'b [u8]) -> std::result::Result<Option<&'b [u8]>, &'static str> {
    let Some((head, behind)) = rest.split_at_checked(LENGTH + CHECKSUM) else { return Ok(None) };
    let (length, sum) = head.split_at(LENGTH);
    if u64::from(masked_crc32c(length)) != number(sum) {
        return Err("length");
    }
    let length = usize::try_from(number(length)).unwrap_or(usize::MAX);
    let Some((data, behind)) = behind.split_at_checked(length) else { return Ok(None) };
    let Some((sum, behind)) = behind.split_at_checked(CHECKSUM) else { return Ok(None) };
    if u64::from(masked_crc32c(data)) != number(sum) {
        return Err("data");
    }
    *rest = behind;
    Ok(Some(data))
}

/// Up to eight bytes, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// CRC-32C (Castagnoli), turned and shifted, so that a checksum of data with checksums in them is none of these.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let crc =
        !bytes.iter().fold(!0_u32, |crc, byte| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8));
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// Adds a record to those of a file.
pub(crate) fn push_record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked_crc32c(&length).to_le_bytes());
    file.extend(data);
    file.extend(masked_crc32c(data).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        let unmasked = |bytes: &[u8]| masked_crc32c(bytes).wrapping_sub(0xa282_ead8).rotate_left(15);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(unmasked(&[0; 32]), 0x8a91_36aa);
        assert_eq!(unmasked(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(unmasked(&ascending), 0x46dd_794e);
        assert_eq!(unmasked(b"123456789"), 0xe306_9283);
    }
}
