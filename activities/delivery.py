"""The sending of what is due to an endpoint."""

from temporalio import activity

from activities.delivery_batch import Batch
from activities.delivery_http import Endpoint, Poster
from domain.webhooks import RetryPolicy
from storage import deliveries, webhooks
from storage.database import Database
from storage.tables import Webhook
from workflows import messages as m


class DeliveryActivities:
    """May be repeated: what was recorded is not sent again, what was not is sent again under the same id."""

    def __init__(self, database: Database, poster: Poster) -> None:
        self._database = database
        self._poster = poster

    @activity.defn(name="deliver")
    async def deliver(self, arg: m.DeliverInput) -> m.DeliverResult:
        """Take over what was published, and send what is due, until nothing is or some time has passed."""
        async with self._database.transaction() as session:
            row = await session.get(Webhook, arg.webhook_id)
            if row is None or not row.enabled:
                return m.DeliverResult(batch=m.DeliveryTotals(), gone=True)
            endpoint = Endpoint(row.url, row.headers, await webhooks.secrets_of(session, row))
            policy = RetryPolicy.model_validate(row.retry_policy)
        batch = Batch(
            self._database, self._poster, row.id, endpoint, policy, enough=activity.is_worker_shutdown
        )
        await batch.run()
        async with self._database.transaction() as session:
            wait = await deliveries.next_due_ms(session, row.id)
        totals = m.DeliveryTotals(
            delivered=batch.counts["delivered"],
            retried=batch.counts["pending"],
            failed=batch.counts["failed"],
        )
        activity.logger.info("sent", extra={"webhook": row.id, **totals.to_json()})
        more = not batch.gone and (batch.unfinished or wait == 0)
        return m.DeliverResult(batch=totals, more=more, next_due_in_ms=wait, gone=batch.gone)
