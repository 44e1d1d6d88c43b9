//! Callers are told apart by what they have proven.

use traffic_core::rate::Rates;

use super::{Chosen, Pair};
use crate::client::Client;
use crate::rates::{few, until_refused};
use crate::server::Server;

#[tokio::test]
async fn a_caller_that_asks_for_too_much_leaves_others_theirs() {
    let app = Server::start("web").await;
    let chosen = Chosen {
        rates: Rates {
            all: None,
            each: few(),
        },
        ..Chosen::default()
    };
    let pair = Pair::of_one_mesh(app.address, chosen).await;
    let mut api = Client::http1(pair.calling.outbound).await;
    let (_, answer) = until_refused(&mut api, "/").await;
    assert!(
        answer
            .text
            .ends_with("that this pod takes of each caller\n"),
        "{}",
        answer.text
    );
    // Somebody who shows no identity, from the same address.
    let mut nobody = Client::http1(pair.called.inbound).await;
    assert_eq!(nobody.get("/").await.text, "web");
}
