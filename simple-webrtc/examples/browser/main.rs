//! A call with a browser: `cargo run -p simple-webrtc --example browser`, then open the page that it names. Everything that
//! the page sends comes back to it. An argument is the port to serve the page at.

mod call;
mod server;

use std::error::Error;

use call::{Call, Wish};
use server::Page;
use simple_webrtc::Config;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse())?;
    let page = Page::serve(port).await?;
    println!("open {} in a browser; ctrl-c ends this", page.url());
    let mut call = Call::new(Config::default(), page)?;
    loop {
        let wish = tokio::select! {
            step = call.step() => step,
            _ = tokio::signal::ctrl_c() => break,
        };
        let done = match wish {
            Ok(Some(Wish::Hello(agent))) => {
                println!("the page is open in {agent}");
                Ok(())
            }
            Ok(Some(Wish::Button(button))) => match &*button {
                "offer" => call.begin(false),
                "be called" => call.begin(true),
                "restart" => call.restart(),
                "close" => call.hang_up(),
                _ => Ok(()),
            },
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            println!("{error}");
        }
        for (state, _) in call.seen.states.drain(..) {
            println!("{state}");
        }
    }
    call.peers.shutdown().await;
    Ok(())
}
