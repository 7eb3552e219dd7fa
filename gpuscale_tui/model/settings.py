"""Settings: names, meanings, limits and defaults, as data (DESIGN sections 10 and 12).

Annotated limits are checked where settings are read (`config.py`); the first sentence of each `description` is what
`config show`, `config check` and the settings screen print. Amounts of money are US dollars as the user types them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=10_000)]
Seconds = Annotated[float, Meta(gt=0, le=7 * 86_400)]
Dollars = Annotated[float, Meta(ge=0, le=1_000_000)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0, le=1_000_000)]
Megabytes = Annotated[float, Meta(ge=0, le=100_000_000)]
Text = Annotated[str, Meta(max_length=1024)]


@dataclass(frozen=True, slots=True)
class ScalerConfig:
    """When to rent and when to give back."""

    min_workers: Annotated[Count, Meta(description="Machines kept even when the queue is empty.")] = 0
    max_workers: Annotated[Count, Meta(description="Machines rented at the same time, at most.")] = 5
    scale_up_threshold: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Waiting jobs from which one more machine is rented.")
    ] = 3
    scale_down_threshold: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Idle machines go back when fewer jobs than this wait.")
    ] = 1
    max_hourly_budget: Annotated[
        Dollars, Meta(description="The cap: USD per hour over all machines, never exceeded at any instant.")
    ] = 10.0
    poll_interval_sec: Annotated[
        float, Meta(ge=0.2, le=3600, description="Seconds between two looks at the market and the machines.")
    ] = 30.0
    idle_timeout_sec: Annotated[
        float, Meta(ge=0, le=7 * 86_400, description="Seconds a machine may idle before it is given back.")
    ] = 120.0
    gpu_type: Annotated[Text, Meta(description="GPU of a job that names none; `none` for no GPU.")] = "RTX 4090"
    max_price_per_gpu: Annotated[
        Dollars, Meta(description="USD per hour and GPU, fees included, of a job that names no limit.")
    ] = 0.50
    docker_image: Annotated[Text, Meta(min_length=1, description="Image of a job that names none.")] = (
        "cloreai/jupyter:ubuntu24.04-v2"
    )
    max_retries: Annotated[
        Count, Meta(description="Times a job is put back after a machine was lost or failed, before it fails.")
    ] = 10
    lost_contact_sec: Annotated[
        Seconds, Meta(description="Seconds without SSH contact after which a machine is given back.")
    ] = 900.0
    shutdown_grace_sec: Annotated[
        Seconds, Meta(description="Seconds for saving and giving back when stopping at once.")
    ] = 120.0
    spot_wait_sec: Annotated[
        float,
        Meta(ge=1, le=86_400, description="Seconds a spot order may wait for a machine before it is cancelled."),
    ] = 120.0
    expiry_lead_sec: Annotated[
        float, Meta(ge=0, le=86_400, description="Seconds before the end of a rental at which its job is moved.")
    ] = 900.0
    low_balance_hours: Annotated[
        float, Meta(ge=0, le=8_760, description="Hours that the wallet lasts under which a warning is given; 0 is off.")
    ] = 3.0
    lease_hours: Annotated[
        float,
        Meta(
            ge=0,
            le=8_760,
            description="Hours without the engine after which a machine saves and ends its job, and itself; 0 is off.",
        ),
    ] = 12.0
    stalled_minutes: Annotated[
        float,
        Meta(
            ge=0,
            le=100_000,
            description="Minutes without output, checkpoint, CPU or GPU use after which a job is reported; 0 is off.",
        ),
    ] = 30.0
    restart_stalled: Annotated[
        bool, Meta(description="Stop such a job and put it back from its last checkpoint; that counts as a retry.")
    ] = False
    workdir_max_mb: Annotated[
        float, Meta(gt=0, le=1_000_000, description="Largest working directory that is uploaded, in megabytes.")
    ] = 500.0


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """What may be spent in all, in USD, fees included; days and months are UTC's. Used up: work is saved and stops."""

    daily: Annotated[Dollars | None, Meta(description="USD a day (UTC) over everything.")] = None
    monthly: Annotated[Dollars | None, Meta(description="USD a calendar month (UTC) over everything.")] = None
    per_job: Annotated[Dollars | None, Meta(description="USD that one job may cost in its whole life.")] = None
    projects: Annotated[
        Mapping[str, Dollars], Meta(description="USD a month for the jobs of a project, by its name.")
    ] = field(default_factory=dict)
    users: Annotated[Mapping[str, Dollars], Meta(description="USD a month for the jobs of a user, by name.")] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class CloreConfig:
    """The Clore.ai marketplace."""

    enabled: Annotated[bool, Meta(description="Rent on Clore.ai.")] = False
    api_key_file: Annotated[
        Text | None, Meta(description="File of mode 0600 with the API key; the environment's CLORE_API_KEY wins.")
    ] = None
    base_url: Annotated[
        Text, Meta(pattern=r"^https?://", description="The API's address; the environment's GPUSCALE_CLORE_URL wins.")
    ] = "https://api.clore.ai/v1"
    currency: Annotated[Text, Meta(description="Wallet that pays: USD-Blockchain, CLORE-Blockchain or bitcoin.")] = (
        "USD-Blockchain"
    )
    order_type: Annotated[
        Literal["on-demand", "spot", "auto"],
        Meta(description="How machines are rented where a job does not say; `auto`: whichever will cost less."),
    ] = "on-demand"
    deploy_timeout_sec: Annotated[
        float, Meta(ge=5, le=3600, description="Seconds for a machine to come up before it is cancelled.")
    ] = 540.0
    min_reliability: Annotated[Fraction, Meta(description="Least reliability of a host, 0 to 1.")] = 0.8
    min_rating: Annotated[
        float, Meta(ge=0, le=5, description="Least mean rating of a host, 0 to 5, where five renters gave one.")
    ] = 3.0
    exclude_countries: Annotated[
        tuple[str, ...], Meta(description="Two-letter countries whose hosts are never rented.")
    ] = ()
    countries: Annotated[
        tuple[str, ...], Meta(description="Two-letter countries whose hosts alone are rented; empty for all.")
    ] = ()
    min_ram_gb: Annotated[Amount, Meta(description="Least memory of a host, in GB.")] = 16.0
    min_threads_per_gpu: Annotated[Amount, Meta(description="Least CPU threads of a host for each of its GPUs.")] = 2.0
    min_disk_gb: Annotated[Amount, Meta(description="Least disk of a host, in GB.")] = 20.0
    min_pcie_gb_per_sec: Annotated[
        Amount, Meta(description="Least PCIe speed of a GPU, GB/s one way: 3.0 x4 has 3.9, a mining riser (x1) 1 or 2.")
    ] = 3.0
    min_net_down_mbps: Annotated[Amount, Meta(description="Least download speed of a host, in Mbit/s.")] = 50.0
    min_cuda: Annotated[
        Text,
        Meta(
            pattern=r"^([0-9]{1,2}(\.[0-9]{1,2})?)?$",
            description="Oldest CUDA of a host's driver; what a job's image names (`cuda12.4`) counts as well.",
        ),
    ] = "11.8"
    min_rental_hours: Annotated[
        Amount,
        Meta(description="Hours for which a host must be on offer, at least; a job's max_runtime counts as well."),
    ] = 1.0
    request_interval_sec: Annotated[
        float, Meta(ge=0, le=60, description="Seconds between two calls of the API (its limit is one a second).")
    ] = 1.1
    create_interval_sec: Annotated[
        float, Meta(ge=0, le=600, description="Seconds between two orders (the API's limit is one in five seconds).")
    ] = 5.5


@dataclass(frozen=True, slots=True)
class SshHost:
    """One host of your own."""

    name: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="How the host is called here; unique.")
    ]
    host: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:_-]{0,254}$", description="Its address: a name or an IP.")
    ]
    port: Annotated[int, Meta(ge=1, le=65_535, description="Its SSH port.")] = 22
    user: Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_-]{0,31}$", description="User to log in as.")] = "root"
    key_file: Annotated[
        Text | None, Meta(description="Private key to log in with; without one, gpuscale's own key.")
    ] = None
    gpu_type: Annotated[Text, Meta(description="Its GPU, or `none`.")] = "none"
    gpu_count: Annotated[int, Meta(ge=0, le=64, description="How many GPUs it has.")] = 0
    price_per_hour: Annotated[Dollars, Meta(description="What an hour of it costs you, USD; 0 is fine.")] = 0.0


@dataclass(frozen=True, slots=True)
class SshConfig:
    """Hosts that you already own."""

    hosts: tuple[SshHost, ...] = ()


@dataclass(frozen=True, slots=True)
class ProvidersConfig:
    """Where machines come from."""

    clore: CloreConfig = field(default_factory=CloreConfig)
    ssh: SshConfig = field(default_factory=SshConfig)


@dataclass(frozen=True, slots=True)
class MachinesConfig:
    """What a machine must prove before it is given work, and what is risked on machines that come to nothing."""

    test: Annotated[bool, Meta(description="Test each machine before it is given work; a bad one goes back.")] = True
    min_free_disk_gb: Annotated[Amount, Meta(description="Free disk that a machine must have for jobs, in GB.")] = 2.0
    min_download_mbps: Annotated[
        Amount, Meta(description="Least speed from a machine to here over SSH, in Mbit/s: checkpoints come that way.")
    ] = 1.0
    max_clock_skew_sec: Annotated[
        Amount, Meta(description="Seconds by which a machine's clock may differ from ours before a warning is given.")
    ] = 60.0
    max_setup_usd: Annotated[
        Dollars,
        Meta(description="USD that setting machines up may cost a group of jobs before one of them starts; 0 is off."),
    ] = 1.0
    pause_minutes: Annotated[
        float,
        Meta(ge=0, le=10_080, description="First pause of a host after a failure; it doubles each time up to a day."),
    ] = 30.0
    host_failures: Annotated[int, Meta(ge=1, le=100, description="Failures in a row after which a host pauses.")] = 1
    owner_failures: Annotated[
        int, Meta(ge=1, le=100, description="Hosts of one owner that fail in a row before all of the owner's pause.")
    ] = 3
    image_failures: Annotated[
        int, Meta(ge=1, le=100, description="Hosts in a row on which an image never came up before it pauses.")
    ] = 3
    usage_interval_sec: Annotated[
        float,
        Meta(
            ge=0, le=86_400, description="Seconds between two looks at a machine's GPU, CPU and memory use; 0 is off."
        ),
    ] = 15.0
    spot_evictions: Annotated[
        int, Meta(ge=1, le=1_000, description="Spot machines lost within an hour before `auto` rents on demand again.")
    ] = 3
    price_history_days: Annotated[
        float, Meta(ge=1, le=3_650, description="Days for which the market's prices are remembered, hour by hour.")
    ] = 90.0


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """Snapshots of the jobs' checkpoint directories."""

    dir: Annotated[
        Text | None, Meta(description="Directory that keeps the snapshots; by default `checkpoints` in the home.")
    ] = None
    keep: Annotated[int, Meta(ge=1, le=10_000, description="Newest snapshots kept of each job.")] = 3
    interval_sec: Annotated[
        float, Meta(ge=1, le=86_400, description="Seconds between two looks at a running job's checkpoints.")
    ] = 60.0
    max_mb: Annotated[
        float, Meta(gt=0, le=10_000_000, description="Largest snapshot that is fetched, in megabytes.")
    ] = 20_000.0
    settle_sec: Annotated[
        float,
        Meta(
            ge=0, le=3_600, description="Seconds for which a file must stand still before it counts as written in full."
        ),
    ] = 2.0
    grace_sec: Annotated[
        int, Meta(ge=0, le=86_400, description="Seconds a job has to save and end, where it does not say itself.")
    ] = 30
    quota_mb: Annotated[
        float,
        Meta(ge=0, le=100_000_000, description="Megabytes of snapshots that a project may keep; 0 is no limit."),
    ] = 0.0
    quotas: Annotated[
        Mapping[str, Megabytes], Meta(description="Megabytes for a project by its name, instead of quota_mb.")
    ] = field(default_factory=dict)
    outputs_max_mb: Annotated[
        float, Meta(gt=0, le=10_000_000, description="Most that is fetched of a job's OUTPUT_DIR, in megabytes.")
    ] = 2_000.0
    s3: Annotated[
        Text | None,
        Meta(description="Object storage for the snapshots instead of `dir`: s3://BUCKET/PREFIX (the extra `s3`)."),
    ] = None
    s3_endpoint: Annotated[
        Text | None, Meta(description="Address of an S3-compatible service; by default Amazon's own.")
    ] = None
    s3_sign_sec: Annotated[
        int, Meta(ge=60, le=604_800, description="Seconds for which an address that a machine may upload to is valid.")
    ] = 3_600


@dataclass(frozen=True, slots=True)
class LogsConfig:
    """What jobs print."""

    max_mb: Annotated[
        float, Meta(gt=0, le=1_000_000, description="Megabytes kept of one attempt's output; the rest is dropped.")
    ] = 1_000.0


NoticeName = Literal[
    "job_done",
    "job_failed",
    "machine_lost",
    "budget",
    "balance",
    "orphan",
    "breaker",
    "stalled",
    "lease",
    "bill",
    "rehearsal",
    "quota",
]
"""The names of `model.notices.NoticeKind`, as users write them."""


@dataclass(frozen=True, slots=True)
class NotifyConfig:
    """Messages to you: Slack, mail, Discord, Telegram, webhooks and more, by Apprise (the extra `notify`)."""

    urls: Annotated[
        tuple[Text, ...],
        Meta(
            description="Addresses as Apprise has them; they are secrets: better `file:PATH` (mode 0600) or `env:NAME`."
        ),
    ] = field(default=(), repr=False)
    on: Annotated[tuple[NoticeName, ...], Meta(description="What is told; without job_done only what needs you.")] = (
        "job_failed", "machine_lost", "budget", "balance", "orphan", "breaker", "stalled", "lease", "bill",
        "rehearsal", "quota",
    )  # fmt: skip
    min_interval_sec: Annotated[
        float, Meta(ge=1, le=86_400, description="Seconds between two messages to an address; what waits comes as one.")
    ] = 60.0
    private_network: Annotated[
        bool, Meta(description="Let names of addresses lead into private networks (not needed for an IP you wrote).")
    ] = False


@dataclass(frozen=True, slots=True)
class UiConfig:
    """The screen."""

    theme: Annotated[Text, Meta(description="Name of a theme: a file in `themes`, or your own.")] = "gpuscale-dark"
    keymap: Annotated[Mapping[str, str], Meta(description='Keys by action id, such as `job.cancel = "x"`.')] = field(
        default_factory=dict
    )
    banner: Annotated[Text, Meta(description="A line that every screen shows, such as which money is at stake.")] = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, checked."""

    scaler: ScalerConfig = field(default_factory=ScalerConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    providers: ProvidersConfig = field(default_factory=ProvidersConfig)
    machines: MachinesConfig = field(default_factory=MachinesConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logs: LogsConfig = field(default_factory=LogsConfig)
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    ui: UiConfig = field(default_factory=UiConfig)
