use super::*;
use proptest::prelude::*;

/// Hands out the bytes in pieces of given sizes, as a network does.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: Vec<usize>,
    turn: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.sizes.get(self.turn % self.sizes.len().max(1)).copied().unwrap_or(1).max(1);
        self.turn += 1;
        let size = size.min(buffer.len()).min(self.bytes.len());
        buffer[..size].copy_from_slice(&self.bytes[..size]);
        self.bytes = &self.bytes[size..];
        Ok(size)
    }
}

fn read(bytes: &[u8]) -> Result<Response, HttpError> {
    Reader::default().read(&mut { bytes })
}

fn malformed(text: &str) -> &'static str {
    match read(text.as_bytes()) {
        Err(Malformed(why)) => why,
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[test]
fn an_event_is_read_with_its_fields_in_any_case() {
    let response = read(
        b"HTTP/1.1 200 OK\r\nlambda-runtime-AWS-request-id: 1-2 \r\nContent-Length: 2\r\n\r\n{}",
    )
    .expect("valid");
    assert_eq!(response.status, 200);
    assert_eq!(response.fields.get("Lambda-Runtime-Aws-Request-Id"), Some("1-2"));
    assert_eq!(response.body, b"{}");
    assert!(response.reusable);
}

#[test]
fn chunked_bodies_are_joined_and_their_trailers_dropped() {
    let response = read(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0a \r\n0123456789\r\n0\r\nT: v\r\n\r\n",
    )
    .expect("valid");
    assert_eq!(response.body, b"abc0123456789");
    assert_eq!(response.fields.get("T"), None);
    assert!(response.reusable);
}

#[test]
fn informational_answers_are_skipped_up_to_a_limit() {
    let one = "HTTP/1.1 100 Continue\r\n\r\n";
    let last = "HTTP/1.1 204 No Content\r\n\r\n";
    let with = |count: usize| read(format!("{}{last}", one.repeat(count)).as_bytes());
    assert_eq!(with(MAX_INFORMATIONAL).expect("valid").status, 204);
    assert!(matches!(with(MAX_INFORMATIONAL + 1), Err(Malformed(_))));
    malformed("HTTP/1.1 101 Switching Protocols\r\n\r\n");
}

#[test]
fn a_connection_is_not_reused_when_the_peer_says_so_or_sends_too_much() {
    let reusable = |head: &str, after: &str| {
        read(format!("{head}\r\nContent-Length: 1\r\n\r\nx{after}").as_bytes())
            .expect("valid")
            .reusable
    };
    assert!(reusable("HTTP/1.1 200 OK\r\nConnection: keep-alive", ""));
    assert!(!reusable("HTTP/1.1 200 OK\r\nConnection: x, Close", ""));
    assert!(!reusable("HTTP/1.0 200 OK", ""));
    assert!(!reusable("HTTP/1.1 200 OK", "HTTP"));
}

#[test]
fn two_readings_of_one_answer_are_impossible() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nA: b\rContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nnocolon\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 2\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
    ] {
        malformed(text);
    }
}

#[test]
fn only_http_1_is_http() {
    for line in ["HTTP/2 200", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1 020 x", "ICY 200 OK", ""] {
        malformed(&format!("{line}\r\nContent-Length: 0\r\n\r\n"));
    }
    assert!(read(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n").is_ok());
}

#[test]
fn the_end_of_the_connection_is_told_apart_by_where_it_comes() {
    assert!(matches!(read(b""), Err(HttpError::ClosedBeforeAnswer)));
    let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for length in 1..whole.len() {
        assert!(matches!(read(&whole[..length]), Err(Truncated(_))), "{length} bytes");
    }
    assert!(read(whole).is_ok());
}

#[test]
fn limits_hold_on_both_sides() {
    let length = |bytes: usize| {
        let mut text = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
        text.resize(text.len() + bytes, b'x');
        read(&text)
    };
    assert_eq!(length(MAX_BODY_BYTES).expect("at the limit").body.len(), MAX_BODY_BYTES);
    assert!(matches!(length(MAX_BODY_BYTES + 1), Err(TooLarge { .. })));
    assert!(matches!(
        read(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
        Err(TooLarge { .. })
    ));

    let chunks = |sizes: [usize; 2]| {
        let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for size in sizes {
            text.extend(format!("{size:x}\r\n").bytes());
            text.resize(text.len() + size, b'x');
            text.extend(b"\r\n");
        }
        text.extend(b"0\r\n\r\n");
        read(&text)
    };
    assert!(chunks([MAX_BODY_BYTES - 1, 1]).is_ok());
    assert!(matches!(chunks([MAX_BODY_BYTES, 1]), Err(TooLarge { .. })));
    assert!(matches!(
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"),
        Err(TooLarge { .. })
    ));

    let fields = |count: usize| {
        let fields: String = (1..count).map(|n| format!("F{n}: v\r\n")).collect();
        read(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n").as_bytes())
    };
    assert!(fields(MAX_FIELDS).is_ok());
    assert!(matches!(fields(MAX_FIELDS + 1), Err(Malformed(_))));

    let head = |bytes: usize| {
        read(format!("HTTP/1.1 204 OK\r\nF: {}\r\n\r\n", "v".repeat(bytes)).as_bytes())
    };
    assert!(head(MAX_HEAD_BYTES - 64).is_ok());
    assert!(matches!(head(MAX_HEAD_BYTES + READ_BYTES), Err(TooLarge { .. })));
}

fn piece_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..5000, 1..20)
}

/// Answers that are nearly right, so that the reader gets past its first check.
fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 204 N\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 99999999999\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "\r\n",
        "\r",
        "\n",
        "5\r\nhello\r\n",
        "0\r\n",
        "ffffffffffffffff\r\n",
        "0\r\n\r\n",
        "hello",
        "A: b\r\n",
        ":",
        " ",
        "\0",
    ]);
    prop::collection::vec(fragment, 0..12).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_in_any_pieces_end_in_an_answer_or_an_error(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..2000), nearly_http()],
        sizes in piece_sizes(),
    ) {
        let mut reader = Reader::default();
        let mut stream = Pieces { bytes: &bytes, sizes, turn: 0 };
        // A reader goes on only after an answer; each answer uses up bytes, so this ends.
        while reader.read(&mut stream).is_ok() {}
    }

    #[test]
    fn pieces_do_not_change_what_is_read(bytes in nearly_http(), sizes in piece_sizes()) {
        let whole = Reader::default().read(&mut bytes.as_slice());
        let pieces = Reader::default().read(&mut Pieces { bytes: &bytes, sizes, turn: 0 });
        match (whole, pieces) {
            (Ok(mut whole), Ok(mut pieces)) => {
                // How much was read too far does depend on the pieces.
                whole.reusable = false;
                pieces.reusable = false;
                prop_assert_eq!(whole, pieces);
            }
            (Err(whole), Err(pieces)) => prop_assert_eq!(whole.to_string(), pieces.to_string()),
            (whole, pieces) => prop_assert!(false, "{:?} but {:?}", whole, pieces),
        }
    }

    #[test]
    fn what_a_correct_peer_sends_is_read_back(
        status in 200u16..600,
        fields in prop::collection::vec(("[A-Za-z-]{1,20}", "[ -~]{0,40}"), 0..20),
        body in prop::collection::vec(any::<u8>(), 0..20_000),
        chunk in prop::option::of(1usize..3000),
        sizes in piece_sizes(),
    ) {
        let mut sent = format!("HTTP/1.1 {status} Any reason\r\n");
        for (name, value) in &fields {
            sent.push_str(&format!("X-{name}: {value}\r\n"));
        }
        let mut sent = sent.into_bytes();
        match chunk {
            Some(size) => {
                sent.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for part in body.chunks(size) {
                    sent.extend(format!("{:X}\r\n", part.len()).bytes());
                    sent.extend(part);
                    sent.extend(b"\r\n");
                }
                sent.extend(b"0\r\n\r\n");
            }
            None => {
                sent.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                sent.extend(&body);
            }
        }
        let response = Reader::default()
            .read(&mut Pieces { bytes: &sent, sizes, turn: 0 })
            .expect("a correct answer");
        prop_assert_eq!(response.status, status);
        for (name, _) in &fields {
            let first = fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
            let expected = first.map(|(_, value)| value.trim());
            prop_assert_eq!(response.fields.get(&format!("x-{name}")), expected);
        }
        if !matches!(status, 204 | 304) {
            prop_assert_eq!(response.body, body);
        }
    }
}
