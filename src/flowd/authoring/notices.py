"""Owners and notices as they are declared: who is told of what, and where.

House rules of this room: those of `kinds`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from flowd.authoring import format as table
from flowd.authoring.findings import Findings, KeyPath, listed, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import WRONG, check_name, items, pairs, text, wrong
from flowd.authoring.records import record
from flowd.core.declared import Notify, Owner
from flowd.core.graph import case_clashes

OWN: Final = "owner"
"""The word for whoever owns the task that something happened to."""

_NAMES = """
46elks acs amqp amqps apprise apprises aprs atalk awswhatsapp azure bale bark barks betterstack bluesky brevo
bsky bulksms bulkvs burstsms chanify clickatell clicksend cliq cm d7sms dapnet deltachat deltachats dingtalk
discord dot eight00com elks emby embys enigma2 enigma2s evolution evolutions exotel feishu firehydrant flock
flowtriq flowtriqs fluxer fluxers form forms freemobile gchat github goalert goalerts gorush gorushs gotify
gotifys groundmail groupme guilded gupshup hassio hassios httpsms humhub humhubs ifttt ilert incidentio infobip
instagram irc ircs jellyfin jellyfins jira join json jsons kakao kakaotalk kaleyra kavenegar klr kodi kodis kook
kudosity kumulos lametric lametrics lark lauther lfg line mailersend mailgun mailto mailtos mastodon mastodons
matrix matrixs misskey misskeys mmost mmosts mobilemessage mobilemsg msg91 msgbird ncloud nclouds nctalk nctalks
nexmo nostr notica noticas notifiarr notifico notificos notifyapp notifyre ntfy ntfys o365 octopush onebot
onebots onesignal opsgenie opsimate opsimates pagerduty pagertree parsep parseps pbul pinglet pinglets pingram
pjet pjets plivo postmark pover prowl psafer psafers push pushdeer pushdeers pushed pushme pushplus pushward
pushy qq reddit resend revolt ringc rocket rockets rsyslog ryver schan sendgrid sendpulse serwersms ses seven
sfr signal signalgrid signals signl4 simplepush sinch slack smsc smseagle smseagles smsmanager smsmgr smstunnel
smtp2go sns sparkpost spike splunk spugpush spush squadcast stackfield strmlabs synology synologys syslog
telesign telnyx tgram threema toot toots trigv trigvs tweet twilio twist twitter viber victorops voipms vonage
webex wechat wecom wecombot whapi whatsapp workflow workflows wpush wxpusher wxteams x xbmc xbmcs xmatters xml
xmls youlmk zalo zcliq zohocliq zoom zulip
"""

SCHEMES: Final = frozenset(_NAMES.split())
"""The schemes of apprise 2.2, by which URLs of notices are called."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*|[0-9]+[A-Za-z][A-Za-z0-9]*):")
_INSTEAD = {
    "http": "write json://HOST/PATH for a webhook, or slack://… for Slack",
    "https": "write jsons://HOST/PATH for a webhook, or slack://… for Slack",
    "smtp": "write mailto://USER@HOST",
}
_EXAMPLE = '["mailto://team@example.com"]'


def owners(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """Who answers for tasks."""
    found = {}
    written = pairs(findings, path, value, f"{{data_team: {{notify: {_EXAMPLE}}}}}")
    for place, name, item in written:
        if not check_name(findings, place, name, at_key=True):
            continue
        if name == OWN:
            message = f"`{OWN}` stands for the owner of each task, and names nobody"
            findings.add("bad_name", place, message, "choose another name", at_key=True)
            continue
        before = len(findings.problems)
        read = record(findings, place, item, table.OWNER, f"owner {quoted(name)}")
        found[name] = Owner(**read) if len(findings.problems) == before else Owner()
    for first, second in case_clashes(name for _, name, _ in written):
        message = f"{quoted(second)} and {quoted(first)} differ only in case"
        findings.add("name_case", (*path, second), message, "rename one of them", at_key=True)
    return found


def notify(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """Who is told of what."""
    found = []
    for place, item in items(findings, path, value, "[{on: [failed], to: owner}]"):
        before = len(findings.problems)
        read = record(findings, place, item, table.NOTIFY, "a notice")
        if len(findings.problems) == before:
            found.append(Notify(**read))
    return tuple(found)


def happenings(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """One of the key's words, or a list of them."""
    found = []
    for place, item in (
        [(path, value)] if isinstance(value, str) else items(findings, path, value, f"[{key.choices[0]}]")
    ):
        if not isinstance(item, str):
            wrong(findings, place, f"one of {listed(key.choices)}", item)
        elif item not in key.choices:
            hint = findings.suggest(item, key.choices, f"use {listed(key.choices)}")
            findings.add("bad_value", place, f"{quoted(item)} is none of {listed(key.choices)}", hint)
        elif item in found:
            findings.add("bad_value", place, f"{quoted(item)} is given twice", "keep one")
        else:
            found.append(item)
    if isinstance(value, list | tuple) and not value:
        findings.add("bad_value", path, "there is none", f"use {listed(key.choices)}")
    return tuple(found)


def addresses(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """URLs."""
    if isinstance(value, list | tuple) and not value:
        findings.add("bad_value", path, "there is no URL", f"write {_EXAMPLE}")
    read = [_address(findings, place, item, key) for place, item in items(findings, path, value, _EXAMPLE)]
    return tuple(item for item in read if item is not WRONG)


def addressees(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A URL, `owner` or an owner's name; or a list of these. Whether there is such an owner is checked later."""
    written = (
        [(path, value)] if isinstance(value, str) else items(findings, path, value, f"{_EXAMPLE}, or an owner's name")
    )
    found = []
    for place, item in written:
        named = isinstance(item, str) and table.NAME.fullmatch(item) is not None
        read = item if named else _address(findings, place, item, key)
        if read is not WRONG:
            found.append(read)
    if isinstance(value, list | tuple) and not value:
        findings.add("bad_value", path, "nobody is told", f"write {_EXAMPLE}, `{OWN}` or an owner's name")
    return tuple(found)


def _address(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    found = text(findings, path, value, key)
    if found is WRONG or found.startswith("{{"):
        return found
    scheme = _SCHEME.match(found)
    if scheme is None:
        findings.add(
            "bad_url", path, f"{quoted(found)} is no URL", "write mailto://USER@HOST, slack://… or json://HOST/PATH"
        )
        return WRONG
    name = scheme[1].lower()
    if name not in SCHEMES:
        hint = _INSTEAD.get(name) or findings.suggest(
            name, SCHEMES, "write a scheme of apprise: mailto, slack, json, …"
        )
        findings.add("bad_url", path, f"{quoted(name)} is no scheme of notices", hint)
        return WRONG
    rest = found[scheme.end() :]
    if not rest.startswith("//") or not rest.strip("/") or any(letter.isspace() for letter in rest.partition("{{")[0]):
        findings.add("bad_url", path, f"{quoted(found)} is no URL", f"write {name}://… without blanks")
        return WRONG
    return found


__all__ = ["OWN", "SCHEMES", "addressees", "addresses", "happenings", "notify", "owners"]
