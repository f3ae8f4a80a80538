//! A reader of `application/vnd.amazon.eventstream`, written from its description alone.

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

/// The first message and what follows it; `Err`: what is wrong, `more` when it is not whole.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Frame, &[u8]), &'static str> {
    let number = |bytes: &[u8]| -> Result<usize, &'static str> {
        let bytes: [u8; 4] = bytes.try_into().map_err(|_| "more")?;
        usize::try_from(u32::from_be_bytes(bytes)).map_err(|_| "size")
    };
    let prelude = bytes.get(..12).ok_or("more")?;
    if number(&prelude[8..])? != crc32fast::hash(&prelude[..8]) as usize {
        return Err("check sum of the prelude");
    }
    let (total, headers_length) = (number(&prelude[..4])?, number(&prelude[4..8])?);
    let headers_end = headers_length.checked_add(12).ok_or("size")?;
    if total < headers_end + 4 {
        return Err("size");
    }
    let message = bytes.get(..total).ok_or("more")?;
    let (body, sum) = message.split_at(total - 4);
    if number(sum)? != crc32fast::hash(body) as usize {
        return Err("check sum of the message");
    }
    let mut rest = &body[12..headers_end];
    let mut headers = Vec::new();
    let take = |rest: &mut &[u8], count: usize| -> Result<Vec<u8>, &'static str> {
        let (taken, left) = rest.split_at_checked(count).ok_or("header")?;
        *rest = left;
        Ok(taken.to_vec())
    };
    while !rest.is_empty() {
        let length = take(&mut rest, 1)?[0].into();
        let name = String::from_utf8(take(&mut rest, length)?).map_err(|_| "header")?;
        if take(&mut rest, 1)? != [7] {
            return Err("type of a header");
        }
        let length = take(&mut rest, 2)?;
        let length = u16::from_be_bytes([length[0], length[1]]).into();
        let value = String::from_utf8(take(&mut rest, length)?).map_err(|_| "header")?;
        headers.push((name, value));
    }
    Ok((Frame { headers, payload: body[headers_end..].to_vec() }, &bytes[total..]))
}

/// All messages.
pub(crate) fn decode_all(mut bytes: &[u8]) -> Result<Vec<Frame>, &'static str> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (frame, rest) = decode(bytes)?;
        frames.push(frame);
        bytes = rest;
    }
    Ok(frames)
}
