"""Straightforward implementation: an item per reading, boto3's resource, FastAPI on uvicorn.

A newcomer would write this app after an afternoon with the three tutorials. It is measured beside the service, in the
same run on the same server, and is no part of the service: no credentials, no entity tags, no streaming, one kind of
error.

    uvicorn tests.long.benchmarks.baseline.app:app
"""

import os
from datetime import datetime
from typing import Annotated, Any

import boto3
from boto3.dynamodb.conditions import Key
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel

app = FastAPI()
database = boto3.resource("dynamodb", endpoint_url=os.environ["DYNAMODB_ENDPOINT"])  # noqa: TID251 - it has no settings
table = database.Table(os.environ["DYNAMODB_TABLE"])  # noqa: TID251


class Reading(BaseModel):
    timestamp: datetime
    glucose_mg_dl: int


@app.get("/api/bg/{user_id}/latest")
def latest(user_id: str) -> Reading:
    found = table.query(KeyConditionExpression=Key("user_id").eq(user_id), ScanIndexForward=False, Limit=1)["Items"]
    if not found:
        raise HTTPException(404, "no readings")
    return Reading(**found[0])


@app.get("/api/bg/{user_id}")
def readings(
    user_id: str, start: Annotated[str, Query(alias="from")], end: Annotated[str, Query(alias="to")]
) -> list[Reading]:
    """Return bounds of sort keys, times as ``2026-03-02T12:00:00Z``. They enclose the range and perhaps its end."""
    asked: dict[str, Any] = {
        "KeyConditionExpression": Key("user_id").eq(user_id) & Key("timestamp").between(start, end)
    }
    found = []
    while True:
        page = table.query(**asked)
        found += page["Items"]
        if "LastEvaluatedKey" not in page:
            return [Reading(**each) for each in found if each["timestamp"] < end]
        asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]
