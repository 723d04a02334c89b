-- name: order_of_job
-- What was ordered. An input is removed a week after its job expired unpaid (forget_inputs); an empty one that is
-- older may have been another.
select work, input, refund_to, state <> 'expired' or input <> '{}' or updated_at >= now() - interval '7 days' as is_kept
from jobs where id = $1
