//! `halfbyte serve`.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use halfbyte_server::{HostName, Options, Origin, Server};

use crate::model::Loading;
use crate::{Ending, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on; 0.0.0.0 for every machine that can reach this one.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen on; 0 for any free one.
    #[arg(short, long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// The model's name in answers; the file's name by default.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Answers that are written together, at most 64.
    #[arg(long, value_name = "N", default_value_t = 64)]
    parallel: usize,
    /// Prompts that may wait; more are answered 429.
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: usize,
    /// MiB of keys and values, for answers and for beginnings that later prompts may share.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    cache_size: usize,
    /// Tokens in one pass: fewer let running answers wait less for long prompts.
    #[arg(long, value_name = "N", default_value_t = halfbyte::PROMPT_CHUNK)]
    pass_tokens: usize,
    /// MiB that a request may have.
    #[arg(long, value_name = "MIB", default_value_t = 8)]
    body_limit: usize,
    /// Requests in a second; those that come faster wait.
    #[arg(long, value_name = "N", default_value_t = 250)]
    rate: u32,
    /// Seconds for a request, waiting and answering; 0 for no limit.
    #[arg(long, value_name = "S", default_value_t = 600)]
    timeout: u64,
    /// Seconds that running answers get when the server is stopped.
    #[arg(long, value_name = "S", default_value_t = 10)]
    grace: u64,
    /// Key that requests must bring; others can read it in the list of processes.
    #[arg(long, value_name = "KEY", conflicts_with = "api_key_file")]
    api_key: Option<String>,
    /// File with the key that requests must bring.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Web site whose pages may use the server, such as `http://localhost:3000`, or `*`; may be
    /// repeated.
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<Origin>,
    /// Name that requests may call the server by, such as `halfbyte.example`, beside localhost and
    /// addresses; may be repeated. Needed where there is no key, or a proxy on this machine.
    #[arg(long, value_name = "NAME")]
    allowed_host: Vec<HostName>,
    /// Say more about what happens.
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    loading: Loading,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Ending> {
    let level = if args.verbose { tracing::Level::DEBUG } else { tracing::Level::WARN };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    // A host that runs several commands has a log after the first one.
    drop(log.try_init());
    let options = options(&args)?;
    let model = args.loading.load()?;
    let server = Server::bind(model, options)?;
    let address = server.address();
    output::note(format_args!("serving {} at http://{address}", server.model_name()));
    if std::io::stderr().is_terminal() {
        output::note("Ctrl-C stops, a second one at once.");
    }
    if !address.ip().is_loopback() && args.api_key.is_none() && args.api_key_file.is_none() {
        output::note(
            "warning: everybody who can reach this machine can use it; see --api-key-file",
        );
    }
    server.run()?;
    Ok(Ending::Done)
}

fn options(args: &Args) -> anyhow::Result<Options> {
    let mut options = Options::default();
    options.address = SocketAddr::new(args.host, args.port);
    options.name.clone_from(&args.name);
    options.parallel = args.parallel;
    options.queue = args.queue;
    options.cache_bytes = args.cache_size.saturating_mul(1 << 20);
    options.pass_tokens = args.pass_tokens;
    options.body_bytes = args.body_limit.saturating_mul(1 << 20);
    options.requests_per_second = args.rate;
    options.timeout = Some(Duration::from_secs(args.timeout)).filter(|time| !time.is_zero());
    options.grace = Duration::from_secs(args.grace);
    options.cors_origins.clone_from(&args.cors_origin);
    options.allowed_hosts.clone_from(&args.allowed_host);
    options.api_key = match &args.api_key_file {
        Some(path) => Some(super::read_file(path)?.trim().to_owned()),
        None => args.api_key.clone(),
    };
    anyhow::ensure!(options.api_key.as_deref() != Some(""), "the key is empty");
    Ok(options)
}
