-- name: work_began
-- When the work of a job could begin: its invoice was settled, its look was answered, or (the pool pays) it was made.
select greatest(job.created_at, evaluation.answered_at, (
    select min(settled_at) from invoices where job_id = job.id and purpose = 'work'))
from jobs job left join evaluations evaluation on evaluation.job_id = job.id
where job.id = $1
