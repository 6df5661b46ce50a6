"""Settings of AWS tools that both transports honour. docs/operating/aws.md lists them, each with its test."""

import json
import os
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from types import ModuleType

import pytest

from bg_ingest.adapters.aws.kms import open_kms
from bg_ingest.adapters.aws.session import adapt_config, find_ca_bundle, get_session
from bg_ingest.adapters.dynamodb import aioboto3_transport, transport
from bg_ingest.adapters.dynamodb.errors import translate_errors
from bg_ingest.adapters.dynamodb.transport import resolve_endpoint
from bg_ingest.errors import KeyUnavailable, StoreError, StoreUnavailable
from tests.fakes.private_aws import KEY_ID, PrivateAws, serve_private_aws, serve_proxy, write_certificate

REGION = "eu-central-1"
STATIC = {"AWS_ACCESS_KEY_ID": "AKIDSTATIC", "AWS_SECRET_ACCESS_KEY": "secret"}

pytestmark = pytest.mark.process


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[transport, aioboto3_transport], ids=["direct", "aioboto3"])
def transports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module of a transport; it does not wait before it repeats a call."""
    monkeypatch.setattr(transport, "FIRST_WAIT_SECONDS", 0)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    module: ModuleType = request.param
    return module


class Environment:
    """Variables and files of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        self._monkeypatch = monkeypatch
        self.home = home

    def set(self, config: str = "", **variables: str) -> None:
        (self.home / ".aws").mkdir(exist_ok=True)
        (self.home / ".aws" / "config").write_text(config)
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)
        get_session.cache_clear()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Environment]:
    for name in [*os.environ]:  # noqa: TID251 - of this machine
        if name.startswith(("AWS_", "REQUESTS_CA")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield Environment(monkeypatch, tmp_path)
    get_session.cache_clear()


async def call(module: ModuleType, endpoint: str | None) -> None:
    with translate_errors("readings"):
        async with module.open_transport(endpoint, REGION, get_session()) as opened:
            await opened.call("GetItem", TableName="readings", Key={"pk": {"S": "a"}, "sk": {"S": "b"}})


class TestCertificates:
    @pytest.mark.parametrize("source", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle"])
    async def test_f5_a_private_ca_is_trusted_where_it_is_configured(
        self, transports: ModuleType, environment: Environment, tmp_path: Path, source: str
    ) -> None:
        bundle = write_certificate(tmp_path)
        async with serve_private_aws(bundle) as server:
            environment.set(**STATIC)
            with pytest.raises(StoreUnavailable):
                await call(transports, server.endpoint)
            if source == "ca_bundle":
                environment.set(f"[default]\nca_bundle = {bundle}\n")
            else:
                environment.set(**{source: str(bundle)})
            await call(transports, server.endpoint)
        assert len(server.authorizations) == 1

    def test_f5_aws_ca_bundle_is_preferred(self, environment: Environment) -> None:
        environment.set(AWS_CA_BUNDLE="/aws.pem", REQUESTS_CA_BUNDLE="/requests.pem")
        assert find_ca_bundle(get_session()) == "/aws.pem"


class TestProxies:
    async def test_f5_s8_a_certificate_is_verified_through_a_proxy(
        self, transports: ModuleType, environment: Environment, tmp_path: Path
    ) -> None:
        bundle = write_certificate(tmp_path)
        async with serve_private_aws(bundle) as server, serve_proxy() as (proxy, targets):
            environment.set(**STATIC, HTTPS_PROXY=proxy)
            with pytest.raises(StoreUnavailable):
                await call(transports, server.endpoint)
            assert server.authorizations == []
            environment.set(AWS_CA_BUNDLE=str(bundle))
            await call(transports, server.endpoint)
        assert set(targets) == {server.endpoint.removeprefix("https://")}
        assert len(server.authorizations) == 1

    async def test_f5_s8_a_key_is_not_unwrapped_by_an_unverified_server(
        self, environment: Environment, tmp_path: Path
    ) -> None:
        async with serve_private_aws(write_certificate(tmp_path)) as server, serve_proxy() as (proxy, targets):
            environment.set(**STATIC, HTTPS_PROXY=proxy, AWS_ENDPOINT_URL_KMS=server.endpoint)
            async with open_kms(REGION, get_session()) as kms:
                with pytest.raises(KeyUnavailable):
                    await kms.unwrap(b"w" * 184, "Key 1")
        assert targets
        assert server.authorizations == []

    async def test_f5_no_proxy_lists_hosts_that_are_called_directly(
        self, transports: ModuleType, environment: Environment
    ) -> None:
        async with serve_private_aws() as server:
            environment.set(**STATIC, HTTP_PROXY="http://127.0.0.1:1", NO_PROXY="127.0.0.1")
            await call(transports, server.endpoint)


class TestEndpoints:
    SERVICES = "[default]\nservices = own\n[services own]\ndynamodb =\n  endpoint_url = https://file.example\n"

    @pytest.mark.parametrize(
        ("config", "variables", "url"),
        [
            ("", {}, f"https://dynamodb.{REGION}.amazonaws.com"),
            ("", {"AWS_ENDPOINT_URL": "https://all.example"}, "https://all.example"),
            ("", {"AWS_ENDPOINT_URL_DYNAMODB": "https://own.example"}, "https://own.example"),
            ("[default]\nendpoint_url = https://file.example\n", {}, "https://file.example"),
            (SERVICES, {}, "https://file.example"),
            (SERVICES, {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, f"https://dynamodb.{REGION}.amazonaws.com"),
            ("", {"AWS_USE_FIPS_ENDPOINT": "true"}, f"https://dynamodb-fips.{REGION}.amazonaws.com"),
            ("", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, f"https://dynamodb.{REGION}.api.aws"),
            ("[default]\nuse_dualstack_endpoint = true\n", {}, f"https://dynamodb.{REGION}.api.aws"),
        ],
    )
    async def test_f5_the_endpoint_is_that_of_aws_tools(
        self, environment: Environment, config: str, variables: dict[str, str], url: str
    ) -> None:
        environment.set(config, **variables)
        assert str((await resolve_endpoint(None, REGION, get_session()))[0]).rstrip("/") == url

    async def test_f5_the_region_is_that_of_the_profile(self, environment: Environment) -> None:
        environment.set("[profile own]\nregion = eu-west-3\n", AWS_PROFILE="own")
        assert (await resolve_endpoint(None, None, get_session()))[1] == "eu-west-3"


class TestRetries:
    @pytest.mark.parametrize(
        ("config", "variables", "tries"),
        [
            ("", {}, 3),
            ("", {"AWS_MAX_ATTEMPTS": "5"}, 5),
            ("[default]\nmax_attempts = 1\n", {}, 1),
            ("", {"AWS_MAX_ATTEMPTS": "2", "AWS_RETRY_MODE": "legacy"}, 2),
        ],
    )
    async def test_f5_a_throttled_call_is_tried_as_often_as_configured(
        self,
        transports: ModuleType,
        environment: Environment,
        config: str,
        variables: dict[str, str],
        tries: int,
    ) -> None:
        async with serve_private_aws() as server:
            server.throttled = True
            environment.set(config, **STATIC, **variables)
            with pytest.raises(StoreUnavailable, match="ThrottlingException"):
                await call(transports, server.endpoint)
        assert len(server.authorizations) == tries

    def test_f5_clients_of_aioboto3_have_the_mode(self, environment: Environment) -> None:
        environment.set(AWS_RETRY_MODE="adaptive")
        assert adapt_config(get_session(), aioboto3_transport.CLIENT_CONFIG).retries["mode"] == "adaptive"


def sign_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the token that ``aws sso login`` leaves in ~/.aws/sso/cache."""
    cache = home / "cache"
    cache.mkdir()
    for library in ("credentials.SSOProvider", "tokens.SSOTokenProvider"):  # they know the home of their import only
        monkeypatch.setattr(f"botocore.{library}._SSO_TOKEN_CACHE_DIR", str(cache))
    token = {"accessToken": "token", "expiresAt": "2999-01-01T00:00:00Z"}
    (cache / f"{sha1(b'work', usedforsecurity=False).hexdigest()}.json").write_text(json.dumps(token))


SSO = (
    "[default]\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = reader\n"
    f"[sso-session work]\nsso_region = {REGION}\nsso_start_url = https://work.awsapps.com/start\n"
)
ASSUMED = (
    "[default]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\n"
    "[profile base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = secret\n"
)


class TestCredentials:
    async def used_key(self, module: ModuleType, server: PrivateAws) -> str:
        await call(module, server.endpoint)
        return server.authorizations[-1].partition("Credential=")[2].partition("/")[0]

    @pytest.mark.parametrize("source", ["sso", "role", "web identity", "imds", "container"])
    async def test_f5_credentials_of_a_role_come_from_every_source(
        self,
        transports: ModuleType,
        environment: Environment,
        monkeypatch: pytest.MonkeyPatch,
        source: str,
    ) -> None:
        async with serve_private_aws() as server:
            url = server.endpoint
            match source:
                case "sso":
                    environment.set(SSO, AWS_ENDPOINT_URL_SSO=url)
                    sign_in(environment.home, monkeypatch)
                case "role":
                    environment.set(ASSUMED, AWS_ENDPOINT_URL_STS=url)
                case "web identity":
                    (environment.home / "token").write_text("a token of the cluster")
                    role = "arn:aws:iam::123456789012:role/reader"
                    token = str(environment.home / "token")
                    variables = {"AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_REGION": REGION}
                    environment.set(**variables, AWS_ENDPOINT_URL_STS=url)
                case "imds":
                    environment.set(AWS_EC2_METADATA_DISABLED="false", AWS_EC2_METADATA_SERVICE_ENDPOINT=url)
                case "container":
                    environment.set(AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{url}/role")
            assert await self.used_key(transports, server) == KEY_ID

    async def test_f5_the_profile_gives_its_keys(self, transports: ModuleType, environment: Environment) -> None:
        async with serve_private_aws() as server:
            environment.set(ASSUMED, AWS_PROFILE="base")
            assert await self.used_key(transports, server) == "AKIDBASE"


@pytest.mark.parametrize(
    ("config", "variables"),
    [
        ("[default]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = nobody\n", {}),
        ("[default]\nrole_arn = arn:aws:iam::123456789012:role/reader\n", {}),
        ("", {"AWS_MAX_ATTEMPTS": "many"}),
        ("", {"AWS_RETRY_MODE": "always"}),
        ("", {"AWS_ENDPOINT_URL_DYNAMODB": "nonsense"}),
        ("", {"AWS_ACCESS_KEY_ID": "alone"}),
        ("[default]\ncredential_process = /nowhere\n", {}),
    ],
)
async def test_f19_a_configuration_that_cannot_be_used_is_one_sentence(
    transports: ModuleType, environment: Environment, config: str, variables: dict[str, str]
) -> None:
    environment.set(config, **variables)
    with pytest.raises(StoreError) as refused:
        await call(transports, None)
    assert "\n" not in str(refused.value)


async def test_f19_a_missing_region_is_one_sentence(transports: ModuleType, environment: Environment) -> None:
    environment.set(**STATIC)
    with pytest.raises(StoreError, match=r"cannot be used \(NoRegionError\): check AWS_REGION"):
        async with transports.open_transport(None, None, get_session()):
            pass
