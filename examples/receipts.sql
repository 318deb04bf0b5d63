-- Three questions that receipts answer, each a statement for oscillink-store sql or for a DuckDB
-- connection with an attached store.

-- How long do searches take, by day?
SELECT
    time::DATE AS day,
    count(*) AS searches,
    avg(seconds) AS average,
    median(seconds) AS median,
    quantile_cont(seconds, 0.95) AS p95
FROM coherent_receipts
WHERE kind = 'search' AND seconds IS NOT NULL
GROUP BY day
ORDER BY day;

-- Which anchors are cited most?
SELECT id, any_value(title) AS title, count(*) AS times
FROM (SELECT unnest(result_ids) AS id FROM coherent_receipts) LEFT JOIN coherent_anchors USING (id)
GROUP BY id
ORDER BY times DESC, id
LIMIT 20;

-- Which searches did not settle, so that their ΔH is not to be trusted?
SELECT hash, time, generation, label, iterations, residual
FROM coherent_receipts
WHERE NOT converged
ORDER BY residual DESC;
