//! `demo-app payment`, `demo-app client` and `demo-app ask`: the workload of the stories and of the demo.

use std::time::Duration;

use anyhow::Context;
use aviary_e2e::app::client::{Caller, Settings};
use aviary_e2e::app::faults::{Delay, Faults, Share};
use aviary_e2e::app::payment::Payment;
use aviary_e2e::app::serve::asked_to_stop;
use clap::Parser;
use tokio::net::TcpListener;

/// A payment service that is as bad as you tell it to be, and its steady caller.
#[derive(Parser)]
enum Part {
    /// Answers GET and POST /pay and the gRPC methods demo.Payment/Pay and demo.Payment/Watch on one port, and /healthz.
    Payment {
        #[arg(long, env = "PORT", default_value_t = 8080)]
        port: u16,
        /// Sent with every answer, in the header x-version.
        #[arg(long, env = "VERSION", default_value = "v1")]
        version: String,
        /// The share of requests that fail, for example 5%.
        #[arg(long, env = "ERROR_RATE", default_value = "0%")]
        error_rate: Share,
        /// The chance of each request to fail besides, for example 0.1%.
        #[arg(long, env = "NOISE", default_value = "0%")]
        noise: Share,
        /// How long each answer takes, for example 20ms.
        #[arg(long, env = "LATENCY", default_value = "0ms")]
        latency: Delay,
        /// How long to serve after SIGTERM: callers learn late that a pod is going.
        #[arg(long, env = "LINGER", default_value = "3s")]
        linger: Delay,
    },
    /// Sends requests at a steady rate, and shows what it saw at GET :9090/stats.
    Client {
        #[arg(long, env = "TARGET", default_value = "http://payment:8080")]
        target: http::Uri,
        /// Requests a second.
        #[arg(long, env = "RATE", default_value_t = 200)]
        rate: u32,
        /// The share of requests that are gRPC; the rest is GET and POST by turns.
        #[arg(long, env = "GRPC_SHARE", default_value = "20%")]
        grpc_share: Share,
        /// How many long streams of gRPC there are at once, beside the requests.
        #[arg(long, env = "STREAMS", default_value_t = 0)]
        streams: u32,
        /// How long to wait for an answer.
        #[arg(long, env = "TIMEOUT", default_value = "5s")]
        timeout: Delay,
        #[arg(long, env = "STATS_PORT", default_value_t = 9090)]
        stats_port: u16,
    },
    /// Sends one request, and fails if it is not answered well.
    Ask {
        #[arg(long, env = "TARGET", default_value = "http://payment:8080")]
        target: http::Uri,
        /// How long to wait for an answer.
        #[arg(long, env = "TIMEOUT", default_value = "30s")]
        timeout: Delay,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Part::parse() {
        Part::Payment {
            port,
            version,
            error_rate,
            noise,
            latency,
            linger,
        } => {
            let payment =
                Payment::new(&version, Faults::new(error_rate, latency).with_noise(noise))?;
            payment
                .run(listen(port).await?, asked_to_stop(), linger.0)
                .await;
        }
        Part::Client {
            target,
            rate,
            grpc_share,
            streams,
            timeout,
            stats_port,
        } => {
            can_be_called(&target)?;
            let settings = Settings {
                target,
                rate,
                grpc: grpc_share,
                streams,
                timeout: timeout.0.max(Duration::from_millis(1)),
            };
            Caller::new(settings)
                .run(listen(stats_port).await?, asked_to_stop())
                .await;
        }
        Part::Ask { target, timeout } => {
            can_be_called(&target)?;
            let settings = Settings {
                target,
                rate: 0,
                grpc: Share::default(),
                streams: 0,
                timeout: timeout.0,
            };
            let answered = Caller::new(settings).ask().await;
            println!("{}", answered.map_err(anyhow::Error::msg)?);
        }
    }
    Ok(())
}

fn can_be_called(target: &http::Uri) -> anyhow::Result<()> {
    anyhow::ensure!(
        target.scheme_str() == Some("http") && target.authority().is_some(),
        "TARGET={target} is not an address to call: write http://NAME:PORT"
    );
    Ok(())
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind(("0.0.0.0", port))
        .await
        .with_context(|| format!("cannot listen on port {port}"))
}
