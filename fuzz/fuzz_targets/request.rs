//! Any bytes on a connection of the short way: no panic, no byte lost, none read twice.
#![no_main]

use lambfold_http1::{Arrival, Connection, Fields};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

fuzz_target!(|input: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (server, mut client) = duplex(input.len().max(1));
        client.write_all(input).await.unwrap();
        drop(client);
        let mut connection = Connection::new(server, None);
        let mut bodies = 0;
        loop {
            match connection.next(|head| head.fields().count() <= 64).await {
                Arrival::Request => {
                    let parts = connection.parts();
                    bodies += parts.body.len();
                    let _ = (parts.head.path_and_query(), parts.head.field("host"));
                }
                Arrival::Foreign => break,
                Arrival::Closed => return assert!(bodies <= input.len()),
            }
        }
        let mut rest = Vec::new();
        connection.rewind().read_to_end(&mut rest).await.unwrap();
        assert!(input.ends_with(&rest));
    });
});
