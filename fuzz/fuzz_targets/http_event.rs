//! Any answer of a function, any request and any change of a sample event: no panic, and what goes to
//! a client is what HTTP allows.
#![no_main]

use lambfold_events::http::{Format, Request, event, response};
use lambfold_events::{Change, Sample};
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr};

fuzz_target!(|input: (&[u8], &[u8], &str)| {
    let (answer, body, text) = input;
    for format in Format::ALL {
        if let Ok(response) = response(format, answer) {
            assert!((200..600).contains(&response.status));
            assert!(!response.headers.contains_key("transfer-encoding"));
            assert!(!response.headers.contains_key("content-length"));
        }
        let request = http::Request::builder().uri(text).header("x-any", body).body(());
        let Ok(request) = request else { continue };
        let event = event(
            format,
            &Request {
                head: &request.into_parts().0,
                body,
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
                port: 1,
                id: text,
                epoch_ms: 0,
                account: "000000000000",
                region: "us-east-1",
            },
        );
        assert!(event.is_object());
    }
    if let (Ok(change), Some(sample)) = (Change::parse(text), Sample::all().first()) {
        let _ = sample.generate(&[change]);
    }
});
