use super::*;
use proptest::prelude::*;

/// A reader of requests as the specification has it, to check the writer with.
fn parse(mut bytes: &[u8]) -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let (mut params, mut body) = (Vec::new(), Vec::new());
    let mut ended = (false, false);
    let begin = &bytes[..16];
    assert_eq!(begin, [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]);
    bytes = &bytes[16..];
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(8);
        assert_eq!((head[0], head[2], head[3]), (1, 0, 1));
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let (content, rest) = rest.split_at(length);
        bytes = &rest[usize::from(head[6])..];
        match (head[1], length) {
            (PARAMS, 0) => ended.0 = true,
            (STDIN, 0) => ended.1 = true,
            (PARAMS, _) => {
                assert!(!ended.0, "parameters after their end");
                let mut content = content;
                while !content.is_empty() {
                    let name = take_length(&mut content);
                    let value = take_length(&mut content);
                    let (name, rest) = content.split_at(name);
                    let (value, rest) = rest.split_at(value);
                    content = rest;
                    params.push((String::from_utf8(name.to_vec()).unwrap(), value.to_vec()));
                }
            }
            (STDIN, _) => {
                assert!(ended.0 && !ended.1, "the body is after the parameters");
                body.extend_from_slice(content);
            }
            (kind, _) => panic!("kind {kind}"),
        }
    }
    assert_eq!(ended, (true, true));
    (params, body)
}

fn take_length(bytes: &mut &[u8]) -> usize {
    if bytes[0] < 0x80 {
        let length = usize::from(bytes[0]);
        *bytes = &bytes[1..];
        return length;
    }
    let length = u32::from_be_bytes([bytes[0] & 0x7f, bytes[1], bytes[2], bytes[3]]);
    *bytes = &bytes[4..];
    length as usize
}

fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut bytes = vec![1, kind, 0, 1, length[0], length[1], padding, 0];
    bytes.extend_from_slice(content);
    bytes.extend(std::iter::repeat_n(0xaa, usize::from(padding)));
    bytes
}

/// What a reader makes of bytes that come in parts of the given sizes.
fn read(bytes: &[u8], sizes: &[usize]) -> Result<(Vec<u8>, Vec<u8>, bool), RecordError> {
    let mut reader = Reader::default();
    let (mut output, mut log, mut ended) = (Vec::new(), Vec::new(), false);
    let mut rest = bytes;
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        let (mut part, after) = rest.split_at(size);
        while !part.is_empty() {
            reader.fill(&mut part).unwrap();
            while let Some(record) = reader.next()? {
                match record {
                    Record::Output(bytes) => output.extend_from_slice(bytes),
                    Record::Log(bytes) => log.extend_from_slice(bytes),
                    Record::End => ended = true,
                    Record::Values => {}
                }
            }
        }
        rest = after;
    }
    Ok((output, log, ended))
}

#[test]
fn a_parameter_fits_into_a_record_or_is_refused() {
    // 1 + 4 bytes of lengths and 1 of the name.
    let fits = vec![b'v'; MAX_CONTENT_BYTES - 6];
    let mut request = Request::new();
    request.param("a", b"1").unwrap();
    request.param("n", &fits).unwrap();
    request.param("z", b"2").unwrap();
    let (params, body) = parse(&request.with_body(b""));
    assert_eq!(params.len(), 3);
    assert_eq!((params[1].1.len(), body.len()), (fits.len(), 0));
    let error = Request::new().param("n", &[&fits[..], b"v"].concat()).unwrap_err();
    assert_eq!((error.name.as_str(), error.bytes), ("n", MAX_CONTENT_BYTES + 1));
}

#[test]
fn answers_out_of_place_are_errors() {
    let end = record(END_REQUEST, &[0; 8], 0);
    let read = |bytes: &[u8]| read(bytes, &[usize::MAX]).unwrap_err();
    assert_eq!(read(b"HTTP/1.1 200"), RecordError::Version(b'H'));
    assert_eq!(read(b"H"), RecordError::Version(b'H'));
    assert_eq!(read(&record(1, b"", 0)), RecordError::Kind(1));
    assert_eq!(read(&[1, 6, 0, 2, 0, 1, 0, 0, 9]), RecordError::Request(2));
    assert_eq!(read(&record(END_REQUEST, b"", 0)), RecordError::EndLength(0));
    assert_eq!(read(&record(END_REQUEST, &[0, 0, 0, 0, 2, 0, 0, 0], 0)), RecordError::Refused(2));
    assert_eq!(read(&[&end[..], &end[..]].concat()), RecordError::AfterEnd);
    let late = [record(STDOUT, b"", 0), record(STDOUT, b"x", 0)].concat();
    assert_eq!(read(&late), RecordError::AfterOutput);
}

#[test]
fn a_reader_serves_one_answer_after_the_other() {
    let mut reader = Reader::default();
    for _ in 0..3 {
        reader.restart().unwrap();
        let bytes = [record(STDOUT, b"x", 3), record(END_REQUEST, &[0; 8], 0)].concat();
        reader.fill(&mut &bytes[..]).unwrap();
        assert_eq!(reader.next(), Ok(Some(Record::Output(b"x"))));
        assert_eq!(reader.next(), Ok(Some(Record::End)));
        assert_eq!(reader.next(), Ok(None));
    }
    reader.fill(&mut &b"\x01"[..]).unwrap();
    assert_eq!(reader.restart(), Err(RecordError::AfterEnd));
}

#[test]
fn a_question_is_one_record() {
    assert_eq!(question(), b"\x01\x09\0\0\0\x11\0\0\x0f\0FCGI_MPXS_CONNS");
}

proptest! {
    #[test]
    fn requests_read_back(
        params in proptest::collection::vec(("[A-Z_]{1,200}", proptest::collection::vec(any::<u8>(), 0..3000)), 0..60),
        body in proptest::collection::vec(any::<u8>(), 0..200_000),
    ) {
        let mut request = Request::new();
        for (name, value) in &params {
            request.param(name, value).unwrap();
        }
        prop_assert_eq!(parse(&request.with_body(&body)), (params, body));
    }

    #[test]
    fn answers_read_back_however_they_are_cut(
        parts in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 1..3000), 0u8..255), 0..20),
        sizes in proptest::collection::vec(1usize..5000, 1..20),
    ) {
        let (mut bytes, mut output, mut log) = (Vec::new(), Vec::new(), Vec::new());
        for (is_output, content, padding) in &parts {
            bytes.extend(record(if *is_output { STDOUT } else { STDERR }, content, *padding));
            if *is_output { &mut output } else { &mut log }.extend_from_slice(content);
        }
        bytes.extend(record(STDOUT, b"", 0));
        bytes.extend(record(END_REQUEST, &[0; 8], 7));
        prop_assert_eq!(read(&bytes, &sizes), Ok((output, log, true)));
    }

    #[test]
    fn any_bytes_are_records_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        sizes in proptest::collection::vec(1usize..20, 1..5),
    ) {
        let _ = read(&bytes, &sizes);
        // The same, past the check of the version.
        let _ = read(&[&[1][..], &bytes].concat(), &sizes);
    }
}
