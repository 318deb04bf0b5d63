-- The functions of one attached store.
--
-- ${name}    the name that the store is attached under, checked to be a plain identifier
-- ${store}   the store's number in this process
-- ${search}  the function whose result type holds this store's metadata columns
--
-- The functions take arguments of any type and check them themselves: q stands here once, so
-- it is evaluated once, and binding a call stays cheap.

-- LIST of STRUCT(id, score, rank)
CREATE OR REPLACE TEMP MACRO ${name}_topk(q, k := 10, filter := NULL, vector := NULL) AS
    __oscillink_topk(${store}, q, vector, k, filter);

-- One row per hit. The list is unnested in the SELECT, which works in a lateral join.
CREATE OR REPLACE TEMP MACRO ${name}_search(q, k := 10, filter := NULL, vector := NULL) AS TABLE
    SELECT unnest(${search}(${store}, q, vector, k, filter), max_depth := 2);

-- LIST of STRUCT(id, score, rank) over the anchors named in ids
CREATE OR REPLACE TEMP MACRO ${name}_rerank(q, ids, k := 10, vector := NULL) AS
    __oscillink_rerank(${store}, q, vector, k, ids::VARCHAR[]);

-- BIGINT: how many anchors named in ids got another gate. A call is a commit.
CREATE OR REPLACE TEMP MACRO ${name}_gate(ids, gate) AS
    __oscillink_gate(${store}, ids::VARCHAR[], gate);

-- One row when everything is what was written, else one for each problem.
CREATE OR REPLACE TEMP MACRO ${name}_verify() AS TABLE
    SELECT unnest(__oscillink_verify(${store}), max_depth := 2);
