"""A second Reveille that plays ThingSpace, and how a gateway before it is configured."""

from server import ACCOUNT, KEY, PASSWORD, SECRET, USER, Server, apply_text

THEIRS = "0000777777-00001"  # what the account is called there
TIMEOUT = 3.0  # seconds: the carrier's
DOOR = ("gateway", "door-password")  # what its callbacks bring


class Upstream(Server):
    """Its server, with the profiles of a fleet under its own account's name."""

    def __init__(self, folder, binary, **options):
        super().__init__(folder, binary, **options)
        self.apply(apply_text({THEIRS: None}))

    def take(self, profiles, name="fleet.csv"):
        return self.import_fleet([one._replace(account=THEIRS) for one in profiles], name)


def forwarding(port, door, password=PASSWORD, ask_after="1s", calls_per_minute=0):
    """The carriers' sections of a gateway before an upstream on `port`, which calls back at the port `door`."""
    section = f'''kind = "thingspace"
timeout = "{TIMEOUT}s"
retry_first = "50ms"
retry_longest = "500ms"
[carriers.NETWORK.thingspace]
url = "http://127.0.0.1:{port}"
key = "{KEY}"
secret = "{SECRET}"
username = "{USER}"
password = "{password}"
accounts = {{ "{ACCOUNT}" = "{THEIRS}" }}
callback_url = "http://127.0.0.1:{door}/api/reveille/v1/carriers/global/callbacks"
callback_username = "{DOOR[0]}"
callback_password = "{DOOR[1]}"
ask_after = "{ask_after}"
calls_per_minute = {calls_per_minute}
'''
    return {network: section.replace("NETWORK", network) for network in ("verizon-us", "global")}
